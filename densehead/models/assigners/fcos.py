"""FCOS's rule: points inside a ground truth, on the level whose range fits its size; the smallest box wins."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from densehead.models.assigners.base import AssignResult, BaseAssigner, no_truth
from densehead.models.assigners.candidates import Contest, chunks, window_size, windows
from densehead.registry import TASK_UTILS
from densehead.structures import Assignment, Predictions, Priors, Targets

INF = 1e8


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
        find, pairs = (self._on_grids, self._window_sizes(priors)) if priors.grids else (self._everywhere, None)
        count = len(priors) if pairs is None else sum(rows * columns for rows, columns in pairs)
        for part in chunks(targets.num_images, targets.max_count, count):
            boxes = targets.boxes[:, part]
            index, is_candidate = find(priors, boxes, pairs)
            is_match = self._matches(priors, boxes, index) & is_candidate & targets.is_valid[:, part, None]
            area = (boxes[..., 2:] - boxes[..., :2]).prod(-1, keepdim=True).clamp(min=0)
            contest.bid(index, area.expand(is_match.shape), is_match, part.start)
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

    def _matches(self, priors: Priors, boxes: Tensor, index: Tensor) -> Tensor:
        """(B, G, M) bool: whether the rule holds for pairs of boxes (B, G, 4) and priors (B, G, M)."""
        points = priors.points[index]
        to_low = points - boxes[..., None, :2]
        to_high = boxes[..., None, 2:] - points
        ranges = torch.tensor(self.regress_ranges, dtype=torch.float32, device=points.device)[priors.level_index[index]]
        farthest = torch.maximum(to_low, to_high).amax(-1)
        in_range = (farthest >= ranges[..., 0]) & (farthest <= ranges[..., 1])
        if self.center_sampling:
            low, high = self._region(boxes[..., None, :], priors.strides[index, None])
            to_low, to_high = points - low, high - points
        return in_range & (torch.minimum(to_low, to_high).amin(-1) > 0)

    def _region(self, boxes: Tensor, stride: Tensor) -> tuple[Tensor, Tensor]:
        """Low and high corner (..., 2) of the region around the centres of boxes (..., 4) that points must lie in."""
        centre = (boxes[..., :2] + boxes[..., 2:]) / 2
        reach = stride * self.center_sample_radius
        return (centre - reach).maximum(boxes[..., :2]), (centre + reach).minimum(boxes[..., 2:])

    def _on_grids(self, priors: Priors, boxes: Tensor, sizes: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Candidates (B, G, M) of boxes (B, G, 4), and which are real: the cells of the windows."""
        boxes = boxes[:, :, None]
        largest = boxes.new_tensor([self.regress_ranges[grid.level][1] for grid in priors.grids])[:, None]
        low, high = boxes[..., :2].expand(-1, -1, len(largest), -1), boxes[..., 2:].expand(-1, -1, len(largest), -1)
        low, high = low.maximum(boxes[..., 2:] - largest), high.minimum(boxes[..., :2] + largest)
        if self.center_sampling:
            stride = boxes.new_tensor([max(grid.stride_x, grid.stride_y) for grid in priors.grids])[:, None]
            region = self._region(boxes, stride)
            low, high = low.maximum(region[0]), high.minimum(region[1])
        return windows(priors, low.flip(-1), high.flip(-1), sizes)

    def _everywhere(self, priors: Priors, boxes: Tensor, sizes: None) -> tuple[Tensor, Tensor]:
        index = torch.arange(len(priors), device=boxes.device).expand(*boxes.shape[:2], -1)
        return index, torch.ones_like(index, dtype=torch.bool)

    def _window_sizes(self, priors: Priors) -> list[tuple[int, int]]:
        """Rows and columns of each grid's window: a point in a box is at most the level's range from each side."""
        sizes = []
        for grid in priors.grids:
            length = self.regress_ranges[grid.level][1]
            if self.center_sampling:
                length = min(length, 2 * self.center_sample_radius * max(grid.stride_x, grid.stride_y))
            rows = window_size(length, grid.stride_y, grid.height)
            sizes.append((rows, window_size(length, grid.stride_x, grid.width)))
        return sizes
