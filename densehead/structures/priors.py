"""``Priors``: where a head predicts from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from torch.nn import functional as F

from densehead.structures.lazy import lazy

PATCH = 8  # cells along a side of a patch


@dataclass(frozen=True)
class Grid:
    """One regular grid of priors: one base prior of one pyramid level.

    Cell ``(row, column)`` has the centre ``(x0 + column * stride_x, y0 + row * stride_y)`` in pixels and the index
    ``start + (row * width + column) * step`` among all priors.

    Attributes:
        level: pyramid level, counted from the finest.
        height, width: number of rows and columns.
        stride_x, stride_y: distance of neighbouring centres, pixels.
        x0, y0: centre of cell (0, 0), pixels.
        box_width, box_height: size of the prior box, pixels (0 where the prior is a point).
        start, step: where the cells stand among all priors (``step`` is the number of base priors at a place).
    """

    level: int
    height: int
    width: int
    stride_x: float
    stride_y: float
    x0: float
    y0: float
    box_width: float
    box_height: float
    start: int
    step: int


@dataclass(frozen=True)
class Priors:
    """The priors of a batch's feature sizes, all levels one after the other, a level row by row.

    Attributes:
        points: (P, 2) centres x, y in pixels.
        boxes: (P, 4) xyxy in pixels; without extent where the priors are points.
        strides: (P,) stride of each prior's level, pixels.
        level_index: (P,) pyramid level of each prior.
        num_level_priors: number of priors of each level.
        grids: the regular grids that the priors form; empty where they form none, and rules that use
            closed forms then take their dense path.
        valid_ranges: (B, len(grids), 4) or None: of each grid the first row, first column, last row + 1 and
            last column + 1 that count for an image; None where all do.
    """

    points: Tensor
    boxes: Tensor
    strides: Tensor
    level_index: Tensor
    num_level_priors: tuple[int, ...]
    grids: tuple[Grid, ...] = ()
    valid_ranges: Tensor | None = field(default=None)
    _squares: dict[float, Priors] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __len__(self) -> int:
        return self.points.shape[0]

    @property
    def num_levels(self) -> int:
        return len(self.num_level_priors)

    @property
    def are_points(self) -> bool:
        """Whether the priors have no extent; only priors on grids say so."""
        return bool(self.grids) and all(grid.box_width == 0 == grid.box_height for grid in self.grids)

    def restricted(self, valid_ranges: Tensor | None) -> Priors:
        """Return the same priors of which only those inside ``valid_ranges`` count."""
        return replace(self, valid_ranges=valid_ranges)

    def as_squares(self, scale: float) -> Priors:
        """Return the same priors with squares of ``scale`` strides around their points as boxes.

        That is how rules that go by the IoU of prior boxes are put on points (ATSS, section 3.2).
        """
        if scale not in self._squares:
            half = self.strides[:, None] * (scale / 2)
            sides = [scale * max(grid.stride_x, grid.stride_y) for grid in self.grids]
            grids = [
                replace(grid, box_width=side, box_height=side) for grid, side in zip(self.grids, sides, strict=True)
            ]
            boxes = torch.cat([self.points - half, self.points + half], -1)
            self._squares[scale] = replace(self, boxes=boxes, grids=tuple(grids))
        return self._squares[scale]

    def valid_mask(self) -> Tensor | None:
        """Return (B, P) bool, True where a prior counts for an image; None where all count for all."""
        return self._valid_mask

    @lazy
    def _valid_mask(self) -> Tensor | None:
        if self.valid_ranges is None:
            return None
        batch = self.valid_ranges.shape[0]
        mask = torch.ones(batch, len(self), dtype=torch.bool, device=self.points.device)
        for grid, limits in zip(self.grids, self.valid_ranges.unbind(1), strict=True):
            top, left, bottom, right = (limit[:, None] for limit in limits.unbind(1))
            rows = torch.arange(grid.height, device=mask.device)
            columns = torch.arange(grid.width, device=mask.device)
            inside = ((rows >= top) & (rows < bottom))[:, :, None] & ((columns >= left) & (columns < right))[:, None]
            stop = grid.start + grid.height * grid.width * grid.step
            mask[:, grid.start : stop : grid.step] = inside.flatten(1)
        return mask

    @lazy
    def patches(self) -> Tensor:
        """(patches, PATCH * PATCH): the priors that are neighbours in both directions; ``P`` where a patch has none.

        Every prior is in one patch. Priors on no grid are taken as they follow each other.
        """
        device = self.points.device
        if not self.grids:
            index = torch.arange(len(self), device=device)
            return F.pad(index, (0, -len(self) % PATCH**2), value=len(self)).view(-1, PATCH**2)
        found = []
        for grid in self.grids:
            cells = torch.arange(grid.height * grid.width, device=device).view(grid.height, grid.width)
            cells = grid.start + cells * grid.step
            cells = F.pad(cells, (0, -grid.width % PATCH, 0, -grid.height % PATCH), value=len(self))
            tiles = cells.unflatten(1, (-1, PATCH)).unflatten(0, (-1, PATCH))  # (rows, PATCH, columns, PATCH)
            found.append(tiles.transpose(1, 2).flatten(2).flatten(0, 1))
        return torch.cat(found)

    @classmethod
    def from_boxes(cls, boxes: Tensor, num_level_priors: list[int] | tuple[int, ...] | None = None) -> Priors:
        """Wrap boxes that need not lie on a grid, or (P, 4) points with strides ``x, y, stride_x, stride_y``.

        Args:
            boxes: (P, 4) xyxy, pixels.
            num_level_priors: priors of each level; one level of all if None.
        """
        counts = tuple(num_level_priors) if num_level_priors is not None else (boxes.shape[0],)
        level = torch.arange(len(counts), device=boxes.device)
        level_index = level.repeat_interleave(torch.tensor(counts, device=boxes.device), output_size=boxes.shape[0])
        points = (boxes[:, :2] + boxes[:, 2:]) / 2
        return cls(points, boxes, (boxes[:, 2:] - boxes[:, :2]).amax(-1), level_index, counts)

    @classmethod
    def from_points(
        cls, points: Tensor, strides: Tensor, num_level_priors: list[int] | tuple[int, ...] | None = None
    ) -> Priors:
        """Wrap points (P, 2) with strides (P,) that need not fill a grid.

        Args:
            points: x, y in pixels.
            strides: pixels.
            num_level_priors: priors of each level; a level for each different stride if None.
        """
        boxes = points.repeat(1, 2)
        if num_level_priors is None:
            values, level_index = strides.unique(return_inverse=True)
            counts = tuple(level_index.bincount(minlength=len(values)).tolist())
        else:
            counts, level_index = tuple(num_level_priors), cls.from_boxes(boxes, num_level_priors).level_index
        return cls(points, boxes, strides, level_index, counts)
