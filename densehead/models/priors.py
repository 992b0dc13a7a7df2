"""Prior generators: points (FCOS) and anchors (ATSS), under mmdetection's config keys.

Both put their priors on regular grids and say so in the :class:`~densehead.structures.Priors` that they make, which is
what lets assigners find candidates in closed form.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor

from densehead.registry import TASK_UTILS
from densehead.structures import Grid, Priors
from densehead.typing import Size

MAX_CACHED_SIZES = 64


def pair(value, name: str) -> tuple[float, float]:
    """Return ``value`` as ``(x, y)``: a number stands for both.

    Raises:
        ValueError: more or fewer than two numbers.
    """
    if isinstance(value, (int, float)):
        return value, value
    if len(value) != 2:
        raise ValueError(f"{name} must be a number or two of them (x, y), but got {value}")
    return tuple(value)


class GridPriorGenerator:
    """What all generators of priors on regular grids share: the cache, the public forms, the validity of cells.

    A subclass says where cell (0, 0) of each grid lies and how large its box is.

    Args:
        strides: distance of neighbouring priors of each level, pixels; a number or (x, y).
    """

    def __init__(self, strides: Sequence[int | tuple[int, int]]) -> None:
        if not strides:
            raise ValueError("strides of the prior generator must hold one stride a level, but it is empty")
        self.strides = [pair(stride, "strides of the prior generator") for stride in strides]
        self._cache: OrderedDict = OrderedDict()
        self._base_numbers: list[list[list[float]]] | None = None

    @property
    def num_levels(self) -> int:
        """Number of pyramid levels."""
        return len(self.strides)

    @property
    def num_base_priors(self) -> list[int]:
        """Number of priors at one place, of each level."""
        raise NotImplementedError

    def base_boxes(self, level: int) -> Tensor:
        """Return (A, 4): the prior boxes of cell (0, 0) of a level, xyxy in pixels; without extent for points."""
        raise NotImplementedError

    def priors(self, featmap_sizes: Sequence[Size], device: torch.device | str = "cpu") -> Priors:
        """Return all priors of feature maps of these sizes; computed once for each combination of sizes.

        Args:
            featmap_sizes: height and width of each level's map.
            device: where the tensors lie.

        Raises:
            ValueError: another number of maps than of levels.
        """
        sizes = tuple((int(height), int(width)) for height, width in featmap_sizes)
        key = (sizes, str(device))
        if key not in self._cache:
            with torch.inference_mode(False):  # a training may follow, which saves them for its backward pass
                self._cache[key] = self._make(sizes, device)
            if len(self._cache) > MAX_CACHED_SIZES:  # multi-scale training meets many sizes
                self._cache.popitem(last=False)
        self._cache.move_to_end(key)
        return self._cache[key]

    def grid_priors(
        self,
        featmap_sizes: Sequence[Size],
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cuda",
        with_stride: bool = False,
    ) -> list[Tensor]:
        """Return the priors of each level, (h * w * A, 4): boxes, or points followed by their strides.

        Points without ``with_stride`` are (h * w, 2). ``priors`` is the form that densehead itself uses.
        """
        priors = self.priors(featmap_sizes, device)
        flat = self._public(priors, with_stride).to(dtype)
        return list(flat.split(priors.num_level_priors))

    def single_level_grid_priors(
        self,
        featmap_size: Size,
        level_idx: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cuda",
        with_stride: bool = False,
    ) -> Tensor:
        """Return the priors of one level, as :meth:`grid_priors` does."""
        sizes = [featmap_size if level == level_idx else (0, 0) for level in range(self.num_levels)]
        return self.grid_priors(sizes, dtype, device, with_stride)[level_idx]

    def sparse_priors(
        self,
        prior_idxs: Tensor,
        featmap_size: Size,
        level_idx: int,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cuda",
    ) -> Tensor:
        """Return the priors of a level at ``prior_idxs`` (n,), counted within the level."""
        return self.single_level_grid_priors(featmap_size, level_idx, dtype, device)[prior_idxs.to(device)]

    def valid_flags(
        self, featmap_sizes: Sequence[Size], pad_shape: Sequence[int], device: torch.device | str = "cuda"
    ) -> list[Tensor]:
        """Return for each level (h * w * A,) bool: whether a prior's cell begins inside the padded image.

        Args:
            featmap_sizes: height and width of each level's map.
            pad_shape: height and width of the padded image, pixels.
            device: where the flags lie.
        """
        priors = self.priors(featmap_sizes, device)
        mask = priors.restricted(self.valid_ranges(featmap_sizes, [pad_shape[:2]], device)).valid_mask()
        mask = torch.ones(len(priors), dtype=torch.bool, device=device) if mask is None else mask[0]
        return list(mask.split(priors.num_level_priors))

    def valid_ranges(
        self,
        featmap_sizes: Sequence[Size],
        pad_shapes: Sequence[Size],
        device: torch.device | str,
        image_shapes: Sequence[Size] | None = None,
        allowed_border: float = -1,
    ) -> Tensor | None:
        """Return the rows and columns that count for each image, for :attr:`Priors.valid_ranges`.

        A cell counts where it begins inside the padded image and, with ``allowed_border`` >= 0, where its box reaches
        no further than that beyond the image. Decided on the host from sizes alone.

        Args:
            featmap_sizes: height and width of each level's map.
            pad_shapes: padded height and width of each image, pixels.
            device: where the result lies.
            image_shapes: height and width of each image; needed with ``allowed_border`` >= 0.
            allowed_border: pixels; negative for no limit.

        Returns:
            (B, number of grids, 4): first row, first column, last row + 1, last column + 1; None where all count.
        """
        grids = self.priors(featmap_sizes, device).grids
        shapes = image_shapes if allowed_border >= 0 else [None] * len(pad_shapes)
        ranges = [
            [_cell_range(grid, pad_shape, shape, allowed_border) for grid in grids]
            for pad_shape, shape in zip(pad_shapes, shapes, strict=True)
        ]
        whole = [(0, 0, grid.height, grid.width) for grid in grids]
        if all(row == whole for row in ranges):
            return None
        return torch.tensor(ranges).to(device, non_blocking=True)  # they differ from batch to batch

    def _public(self, priors: Priors, with_stride: bool) -> Tensor:
        return priors.boxes

    def _numbers(self) -> list[list[list[float]]]:
        """What :meth:`base_boxes` returns for each level, as numbers; kept, for a compiler cannot read them then."""
        if self._base_numbers is None:
            with torch.device("cpu"):
                self._base_numbers = [self.base_boxes(level).tolist() for level in range(self.num_levels)]
        return self._base_numbers

    def _make(self, sizes: tuple[Size, ...], device: torch.device | str) -> Priors:
        if len(sizes) != self.num_levels:
            raise ValueError(
                f"the prior generator has {self.num_levels} strides {self.strides}, but got {len(sizes)} feature maps "
                f"of the sizes {list(sizes)}: strides and the neck's num_outs must agree"
            )
        boxes, points, strides, levels, counts, grids, start = [], [], [], [], [], [], 0
        base_numbers = self._numbers()
        for level, ((height, width), (stride_x, stride_y)) in enumerate(zip(sizes, self.strides, strict=True)):
            base = self.base_boxes(level).to(device)
            x = torch.arange(width, device=device) * stride_x
            y = torch.arange(height, device=device) * stride_y
            shift = torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1] * 2, -1)  # (h, w, 4): x y x y
            cells = (shift[:, :, None] + base).flatten(0, 2)
            count = cells.shape[0]
            boxes.append(cells)
            points.append((cells[:, :2] + cells[:, 2:]) / 2)
            strides.append(cells.new_full((count,), max(stride_x, stride_y)))
            levels.append(torch.full((count,), level, device=device))
            counts.append(count)
            for offset, (x1, y1, x2, y2) in enumerate(base_numbers[level]):
                centre = ((x1 + x2) / 2, (y1 + y2) / 2)
                size = (x2 - x1, y2 - y1)
                grids.append(
                    Grid(level, height, width, stride_x, stride_y, *centre, *size, start + offset, base.shape[0])
                )
            start += count
        return Priors(
            torch.cat(points), torch.cat(boxes), torch.cat(strides), torch.cat(levels), tuple(counts), tuple(grids)
        )


def _cell_range(grid: Grid, pad_shape: Size, image_shape: Size | None, border: float) -> tuple[int, int, int, int]:
    """First row, first column, last row + 1, last column + 1 of the cells that count for an image."""
    limits = []
    for axis, (cells, stride, origin, extent) in enumerate(
        [(grid.height, grid.stride_y, grid.y0, grid.box_height), (grid.width, grid.stride_x, grid.x0, grid.box_width)]
    ):
        first, last = 0, min(-(-int(pad_shape[axis]) // int(stride)), cells)
        if image_shape is not None:
            low = [cell for cell in range(last) if origin + cell * stride - extent / 2 >= -border]
            kept = [cell for cell in low if origin + cell * stride + extent / 2 < image_shape[axis] + border]
            first, last = (kept[0], kept[-1] + 1) if kept else (0, 0)
        limits.append((first, last))
    (top, bottom), (left, right) = limits
    return top, left, bottom, right


@TASK_UTILS.register_module()
class MlvlPointGenerator(GridPriorGenerator):
    """One point a cell: the priors of FCOS and its kin.

    Args:
        strides: distance of neighbouring points of each level, pixels; a number or (x, y).
        offset: where in a cell its point lies, as a fraction of the stride.
    """

    def __init__(self, strides: Sequence[int | tuple[int, int]], offset: float = 0.5) -> None:
        super().__init__(strides)
        self.offset = offset
        self._numbers()

    @property
    def num_base_priors(self) -> list[int]:
        return [1] * self.num_levels

    def base_boxes(self, level: int) -> Tensor:
        stride_x, stride_y = self.strides[level]
        return torch.tensor([[stride_x * self.offset, stride_y * self.offset] * 2], dtype=torch.float32)

    def _public(self, priors: Priors, with_stride: bool) -> Tensor:
        if not with_stride:
            return priors.points
        strides = torch.tensor(self.strides, dtype=torch.float32, device=priors.points.device)
        return torch.cat([priors.points, strides[priors.level_index]], 1)


@TASK_UTILS.register_module()
class AnchorGenerator(GridPriorGenerator):
    """Boxes of several scales and aspect ratios in every cell (Faster R-CNN, section 3.1.1; RetinaNet, section 4).

    Args:
        strides: distance of neighbouring anchors of each level, pixels; a number or (x, y).
        ratios: height over width.
        scales: multiples of the base size; or give ``octave_base_scale`` and ``scales_per_octave``.
        base_sizes: side of the anchor of scale 1 of each level, pixels; the smaller stride if None.
        scale_major: whether, of the anchors of a cell, those of one ratio stand together.
        octave_base_scale: the smallest scale; the others are ``2 ** (i / scales_per_octave)`` times it.
        scales_per_octave: number of scales.
        centers: centre of cell (0, 0) of each level, pixels; instead of ``center_offset``.
        center_offset: centre of cell (0, 0) as a fraction of the base size.
        use_box_type: accepted for mmdetection's sake; boxes are tensors here.

    Raises:
        ValueError: keys that contradict each other, named.
    """

    def __init__(
        self,
        strides: Sequence[int | tuple[int, int]],
        ratios: Sequence[float],
        scales: Sequence[float] | None = None,
        base_sizes: Sequence[float] | None = None,
        scale_major: bool = True,
        octave_base_scale: float | None = None,
        scales_per_octave: int | None = None,
        centers: Sequence[tuple[float, float]] | None = None,
        center_offset: float = 0.0,
        use_box_type: bool = False,
    ) -> None:
        super().__init__(strides)
        octaves = octave_base_scale is not None and scales_per_octave is not None
        if octaves == (scales is not None):
            raise ValueError(
                "anchor_generator needs either scales or both of octave_base_scale and scales_per_octave, but got "
                f"scales={scales}, octave_base_scale={octave_base_scale}, scales_per_octave={scales_per_octave}"
            )
        if not 0 <= center_offset <= 1:
            raise ValueError(f"anchor_generator.center_offset must be within [0, 1], but got {center_offset}")
        if center_offset != 0 and centers is not None:
            raise ValueError(
                f"anchor_generator takes centers or center_offset, not both: got {centers} and {center_offset}"
            )
        self.base_sizes = [min(stride) for stride in self.strides] if base_sizes is None else list(base_sizes)
        for name, values in (("base_sizes", self.base_sizes), ("centers", centers)):
            if values is not None and len(values) != self.num_levels:
                raise ValueError(
                    f"anchor_generator.{name} must have one entry a stride ({self.num_levels}), but got {values}"
                )
        self.octave_base_scale = octave_base_scale
        self.scales_per_octave = scales_per_octave
        if octaves:
            scales = [octave_base_scale * 2 ** (octave / scales_per_octave) for octave in range(scales_per_octave)]
        self.scale_major = scale_major
        self.centers = centers
        self.center_offset = center_offset
        with torch.device("cpu"):  # a model may be built on the meta device, where there are no numbers
            self.scales = torch.tensor(scales, dtype=torch.float32)
            self.ratios = torch.tensor(ratios, dtype=torch.float32)
            self.base_anchors = [self._base_anchors(level) for level in range(self.num_levels)]
        self._numbers()

    @property
    def num_base_priors(self) -> list[int]:
        return [anchors.shape[0] for anchors in self.base_anchors]

    num_base_anchors = num_base_priors

    def base_boxes(self, level: int) -> Tensor:
        return self.base_anchors[level]

    def _base_anchors(self, level: int) -> Tensor:
        size = self.base_sizes[level]
        centre = torch.tensor(self.centers[level] if self.centers else [self.center_offset * size] * 2)
        heights, widths = self.ratios.sqrt(), 1 / self.ratios.sqrt()
        if self.scale_major:
            heights, widths = (size * side[:, None] * self.scales for side in (heights, widths))
        else:
            heights, widths = (size * self.scales[:, None] * side for side in (heights, widths))
        half = torch.stack([widths.flatten(), heights.flatten()], -1) / 2
        return torch.cat([centre - half, centre + half], -1)
