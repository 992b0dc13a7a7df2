"""FCOS's rule: points inside a ground truth, on the level whose range fits its size; the smallest box wins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from densehead.models.assigners.base import AssignResult, BaseAssigner, no_truth
from densehead.models.assigners.candidates import SLACK, Contest, GridTensors, chunks, window_places, window_size
from densehead.ops import constant
from densehead.registry import TASK_UTILS
from densehead.structures import Assignment, Grid, Predictions, Priors, Targets

INF = 1e8
# (M, B, G) bool, and what takes indices on its three axes and returns priors
Matches = tuple[Tensor, Callable[[Tensor, Tensor, Tensor], Tensor]]


@TASK_UTILS.register_module()
class FCOSAssigner(BaseAssigner):
    """Assign a point to the smallest ground truth that it lies in (FCOS, section 3.2; centre sampling: section 3.3 of
    the journal version).

    A point answers for a box only if the farthest side of the box is within the range of the point's level.

    Args:
        regress_ranges: of each level the smallest and the largest distance to the farthest side, pixels.
        center_sampling: whether only the points around the centre of a box count.
        center_sample_radius: reach of that region from the centre, in strides of the level.

    Raises:
        ValueError: ranges that are no pairs, or another number of them than the priors have levels.
    """

    def __init__(
        self,
        regress_ranges: Sequence[tuple[float, float]] = ((-1, 64), (64, 128), (128, 256), (256, 512), (512, INF)),
        center_sampling: bool = False,
        center_sample_radius: float = 1.5,
    ) -> None:
        self.regress_ranges = [tuple(limits) for limits in regress_ranges]
        if any(len(limits) != 2 or limits[0] > limits[1] for limits in self.regress_ranges):
            raise ValueError(f"regress_ranges must hold one (smallest, largest) a level, but got {regress_ranges}")
        self.center_sampling = center_sampling
        self.center_sample_radius = center_sample_radius

    def __call__(self, priors: Priors, targets: Targets, predictions: Predictions | None = None) -> Assignment:
        """Assign every prior of every image; see the base class."""
        if priors.num_levels != len(self.regress_ranges):
            raise ValueError(
                f"regress_ranges has {len(self.regress_ranges)} entries {self.regress_ranges}, but the priors have "
                f"{priors.num_levels} levels: give one range a level (strides)"
            )
        if not targets.max_count:
            return no_truth(priors, targets)
        contest = Contest(targets.num_images, len(priors), priors.points.device, smallest=True)
        sizes = self._window_sizes(priors) if priors.grids else ()
        count = sum(rows * columns for rows, columns in sizes) if priors.grids else len(priors)
        for part in chunks(targets.num_images, targets.max_count, count):
            boxes = targets.boxes[:, part]
            is_match, prior_index = self._on_grids(priors, boxes, sizes) if sizes else self._everywhere(priors, boxes)
            area = (boxes[..., 2:] - boxes[..., :2]).prod(-1).clamp(min=0)
            contest.bid_where(is_match & targets.is_valid[:, part], area, prior_index, part.start)
        truth, area = contest.result()
        return Assignment(truth, area).ignoring(priors.valid_mask())

    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        num_level_priors: list[int] | None = None,
        **kwargs,
    ) -> AssignResult:
        """Assign the points of one image; see the base class.

        Args:
            pred_instances: ``priors`` (P, 4), points followed by their strides, pixels.
            gt_instances, gt_instances_ignore: as in the base class; regions to ignore have no meaning in this rule.
            num_level_priors: number of priors of each level; from the strides if None.
            kwargs: what other assigners take.
        """
        points = pred_instances.priors
        priors = Priors.from_points(points[:, :2], points[:, 2], num_level_priors)
        return self._assign_one(priors, gt_instances, gt_instances_ignore)

    def _on_grids(self, priors: Priors, boxes: Tensor, sizes: tuple[tuple[int, int], ...]) -> Matches:
        """Where boxes (B, G, 4) match the cells of windows of ``sizes`` around them.

        Rows and columns are graded apart; the products of their grades are the tables of cells. Ground truths stand in
        the last axis, so that a step of the memory is one of theirs and not one of the few rows of a window.
        """
        grids = GridTensors.of(priors)
        low, high = _sides(boxes).flip(1)  # (2, B, G): y, x
        origin, stride = grids.origin[..., None, None], grids.stride[..., None, None]  # (T, 2, 1, 1)
        first, stop = grids.first.permute(1, 2, 0)[..., None], grids.stop.permute(1, 2, 0)[..., None]
        limits = tuple(self.regress_ranges[grid.level] for grid in priors.grids)
        limits = constant(limits, boxes.dtype, boxes.device).T[..., None, None, None]  # (2, T, 1, 1, 1)
        lower = self._region(low, high, stride.amax(1, keepdim=True))[0].maximum(high - limits[1])
        begin = ((lower - origin) / stride - SLACK).ceil().maximum(first)  # (T, 2, B, G)
        cell = begin[:, :, None] + torch.arange(max(map(max, sizes)), device=boxes.device)[:, None, None]
        position = origin[:, :, None] + cell * stride[:, :, None]  # (T, 2, S, B, G)
        grade = self._grade(position, low[:, None], high[:, None], limits[:, :, None], stride[:, :, None].amax(1, True))
        grade *= cell < stop[:, :, None]
        tables = [
            (lines[0, :rows, None] * lines[1, :columns]).flatten(0, 1)
            for lines, (rows, columns) in zip(grade, sizes, strict=True)
        ]
        row, column = begin.long().unbind(1)  # (T, B, G)
        width, step, start = (numbers[:, None, None] for numbers in (grids.width, grids.step, grids.start))
        corner = start + (row * width + column) * step
        grid, offset = _window_offsets(priors.grids, sizes, boxes.device)
        return torch.cat(tables) > 1, lambda place, image, truth: corner[grid[place], image, truth] + offset[place]

    def _everywhere(self, priors: Priors, boxes: Tensor) -> Matches:
        """Where boxes (B, G, 4) match any of the priors."""
        low, high = _sides(boxes)[:, :, None]  # (2, 1, B, G)
        limits = constant(tuple(self.regress_ranges), boxes.dtype, boxes.device)[priors.level_index]
        points, limits, strides = (numbers[..., None, None] for numbers in (priors.points.T, limits.T, priors.strides))
        by_x, by_y = self._grade(points, low, high, limits, strides)  # (P, B, G)
        return by_x * by_y > 1, lambda place, image, truth: place

    def _grade(self, position: Tensor, low: Tensor, high: Tensor, limits: Tensor, stride: Tensor) -> Tensor:
        """Grade positions on an axis, of boxes from ``low`` to ``high``, on levels of ``limits`` (smallest, largest).

        Returns:
            uint8: 0 where the position is outside the box or too far from a side, else 2 where a side is far enough for
            the level and 1 where none is. A point matches if no axis has 0 and one has 2.
        """
        farthest = torch.maximum(position - low, high - position)
        begin, end = self._region(low, high, stride)
        fits = (position > begin) & (position < end) & (farthest <= limits[1])
        return fits.to(torch.uint8).add_(fits & (farthest >= limits[0]))

    def _region(self, low: Tensor, high: Tensor, stride: Tensor) -> tuple[Tensor, Tensor]:
        """What a point on an axis must lie between: the sides of a box, or what centre sampling leaves of it."""
        if not self.center_sampling:
            return low, high
        centre, reach = (low + high) / 2, stride * self.center_sample_radius
        return (centre - reach).maximum(low), (centre + reach).minimum(high)

    def _window_sizes(self, priors: Priors) -> tuple[tuple[int, int], ...]:
        """Rows and columns of each grid's window: a point in a box is at most the level's range from each side."""
        sizes = []
        for grid in priors.grids:
            length = self.regress_ranges[grid.level][1]
            if self.center_sampling:
                length = min(length, 2 * self.center_sample_radius * max(grid.stride_x, grid.stride_y))
            rows = window_size(length, grid.stride_y, grid.height)
            sizes.append((rows, window_size(length, grid.stride_x, grid.width)))
        return tuple(sizes)


def _sides(boxes: Tensor) -> Tensor:
    """Boxes (B, G, 4) as (2, 2, B, G): low and high, x and y."""
    return boxes.permute(2, 0, 1).contiguous().unflatten(0, (2, 2))


@lru_cache(maxsize=16)
def _window_offsets(
    grids: tuple[Grid, ...], sizes: tuple[tuple[int, int], ...], device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return (M,) the grid of each place of windows, and how far its prior stands behind that of the first place."""
    grid, row, column = window_places(sizes, device)
    width, step = (torch.tensor([getattr(one, name) for one in grids], device=device) for name in ("width", "step"))
    return grid, (row * width[grid] + column) * step[grid]
