"""The IoU thresholds of RetinaNet and of region proposal networks."""

from __future__ import annotations

import torch
from torch import Tensor

from densehead.models.assigners.base import BaseAssigner, no_truth
from densehead.models.assigners.candidates import Contest, GridTensors, chunks, window_size, windows
from densehead.models.assigners.iou import check_calculator, ignored_priors
from densehead.ops import aligned_iou
from densehead.registry import TASK_UTILS
from densehead.structures import IGNORED, NEGATIVE, Assignment, Predictions, Priors, Targets

TIE = 1e-4  # relative difference below which two IoUs may be the same but for rounding


@TASK_UTILS.register_module()
class MaxIoUAssigner(BaseAssigner):
    """Assign a prior to the ground truth of highest IoU, if that is high enough (Faster R-CNN, section 3.1.2).

    A prior whose highest IoU reaches ``pos_iou_thr`` is positive, one below ``neg_iou_thr`` negative, one between them
    ignored. Then (``match_low_quality``) every ground truth takes the priors of its own highest IoU, if that reaches
    ``min_pos_iou``; where several want the same prior, the last one gets it.

    On grids a ground truth is compared with the priors around it that can reach the lowest threshold at all; IoUs below
    it are not computed and stand as 0 in :attr:`Assignment.overlaps`. How many there are depends on the boxes, so on
    CUDA the windows' size is read back once. A ground truth that overlaps no prior gets none (mmdetection gives it, at
    ``min_pos_iou`` 0, every prior of IoU 0).

    Args:
        pos_iou_thr: lowest IoU of a positive.
        neg_iou_thr: IoU below which a prior is negative; a pair gives a lowest IoU of negatives too.
        min_pos_iou: lowest IoU of a low-quality match.
        gt_max_assign_all: whether of priors with the same highest IoU all are taken, or only the first.
        ignore_iof_thr: priors of which a larger share than this lies in a region to ignore are ignored; off if
            not positive.
        ignore_wrt_candidates: whether the share is that of the prior (True) or of the region.
        match_low_quality: see above.
        gpu_assign_thr: accepted for mmdetection's sake; memory is bounded for any number of ground truths.
        iou_calculator: ``BboxOverlaps2D``.
        perm_repeat_gt_cfg: not supported.

    Raises:
        ValueError: a key with a value that is not supported.
    """

    needs_extent = True

    def __init__(
        self,
        pos_iou_thr: float,
        neg_iou_thr: float | tuple[float, float],
        min_pos_iou: float = 0.0,
        gt_max_assign_all: bool = True,
        ignore_iof_thr: float = -1,
        ignore_wrt_candidates: bool = True,
        match_low_quality: bool = True,
        gpu_assign_thr: float = -1,
        iou_calculator: dict | None = None,
        perm_repeat_gt_cfg: dict | None = None,
    ) -> None:
        check_calculator("MaxIoUAssigner", iou_calculator)
        if perm_repeat_gt_cfg is not None:
            raise ValueError(f"MaxIoUAssigner.perm_repeat_gt_cfg must be None, but got {perm_repeat_gt_cfg}")
        self.pos_iou_thr = pos_iou_thr
        self.neg_iou_range = tuple(neg_iou_thr) if isinstance(neg_iou_thr, (tuple, list)) else (0.0, neg_iou_thr)
        if len(self.neg_iou_range) != 2:
            raise ValueError(f"MaxIoUAssigner.neg_iou_thr must be a number or two of them, but got {neg_iou_thr}")
        self.min_pos_iou = min_pos_iou
        self.gt_max_assign_all = gt_max_assign_all
        self.ignore_iof_thr = ignore_iof_thr
        self.ignore_wrt_candidates = ignore_wrt_candidates
        self.match_low_quality = match_low_quality

    def __call__(self, priors: Priors, targets: Targets, predictions: Predictions | None = None) -> Assignment:
        """Assign every prior of every image; see the base class."""
        if not targets.max_count or not len(priors):
            return no_truth(priors, targets)
        is_ignored = ignored_priors(priors, targets, self.ignore_iof_thr, self.ignore_wrt_candidates)
        device = priors.points.device
        best = Contest(targets.num_images, len(priors), device)
        own = torch.full((targets.num_images, len(priors)), -1, device=device)  # low-quality matches
        # a prior that a region excludes leaves the closed form's best prior of a ground truth undecided
        on_grid = priors.grids and is_ignored is None
        for part, find in self._parts(priors, targets, bool(on_grid)):
            boxes = targets.boxes[:, part]
            index, is_real = find(boxes)
            if is_ignored is not None:
                is_real = is_real & ~is_ignored[:, None].expand(-1, boxes.shape[1], -1).gather(-1, index)
            is_real = is_real & targets.is_valid[:, part, None]
            iou = aligned_iou(priors.boxes[index], boxes[:, :, None])
            best.bid(index, iou, is_real, part.start)
            if self.match_low_quality:
                self._match_own(own, index, iou.where(is_real, -1), part.start)
        assignment = self._decide(*best.result(), own)
        if is_ignored is not None:
            assignment = assignment.ignoring(~is_ignored)
            assignment.overlaps.masked_fill_(is_ignored, -1)
        return assignment.ignoring(priors.valid_mask())

    def _decide(self, truth: Tensor, iou: Tensor, own: Tensor) -> Assignment:
        """Apply the thresholds to the best ground truth (B, P) of every prior, and the low-quality matches."""
        low, high = self.neg_iou_range
        index = torch.full_like(truth, IGNORED).masked_fill((iou >= low) & (iou < high), NEGATIVE)
        index = truth.where((iou >= self.pos_iou_thr) & (truth >= 0), index)
        return Assignment(own.where(own >= 0, index), iou, has_ignored=True)

    def _match_own(self, own: Tensor, index: Tensor, iou: Tensor, first_truth: int) -> None:
        """Enter into ``own`` (B, P) the priors that ground truths (B, G, M candidates) overlap most."""
        highest = iou.amax(-1, keepdim=True)
        is_own = (iou == highest) & (highest >= self.min_pos_iou) & (highest > 0)
        if not self.gt_max_assign_all:
            is_own &= index == index.where(is_own, own.shape[1]).amin(-1, keepdim=True)
        truth = torch.arange(first_truth, first_truth + index.shape[1], device=own.device)[:, None]
        own.scatter_reduce_(1, index.flatten(1), truth.where(is_own, -1).flatten(1), "amax")

    def _parts(self, priors: Priors, targets: Targets, on_grid: bool):
        """Yield slices of the ground truths, each with what finds the candidates of their boxes."""
        if not on_grid:
            for part in chunks(targets.num_images, targets.max_count, len(priors)):
                yield part, lambda boxes: _all(priors, boxes)
            return
        reach = self._reach(priors, targets)  # (B, G, T, 2)
        span = torch.where(targets.is_valid[..., None, None], reach, 0).flatten(0, 1).amax(0).tolist()
        sizes = [
            (
                window_size(2 * rows, grid.stride_y, grid.height),
                window_size(2 * columns, grid.stride_x, grid.width),
            )
            for grid, (rows, columns) in zip(priors.grids, span, strict=True)
        ]
        for part in chunks(targets.num_images, targets.max_count, sum(rows * columns for rows, columns in sizes)):
            centre = (targets.boxes[:, part, :2] + targets.boxes[:, part, 2:]).flip(-1)[:, :, None] / 2
            low, high = centre - reach[:, part], centre + reach[:, part]
            yield part, lambda boxes, low=low, high=high: windows(priors, low, high, sizes)

    def _reach(self, priors: Priors, targets: Targets) -> Tensor:
        """(B, G, T, 2) how far (y, x) the priors of a grid that matter lie from a ground truth's centre, pixels.

        An IoU of ``t`` needs an overlap of ``t`` times the larger of the two lengths on each axis. For low-quality
        matches the priors of the highest IoU matter too: on each axis all that overlap as much as the nearest one.
        """
        grids = GridTensors.of(priors)
        size = (targets.boxes[..., 2:] - targets.boxes[..., :2]).flip(-1)[:, :, None].clamp(min=0)
        centre = (targets.boxes[..., 2:] + targets.boxes[..., :2]).flip(-1)[:, :, None] / 2
        lowest = max(min(self.pos_iou_thr, self.neg_iou_range[0] or self.neg_iou_range[1]), 1e-6)
        larger, smaller = torch.maximum(size, grids.extent), torch.minimum(size, grids.extent)
        reach = (larger + smaller) / 2 - lowest * larger
        reach = reach.where((smaller >= lowest * larger).all(-1, keepdim=True), -1)
        if not self.match_low_quality:
            return reach
        nearest = ((centre - grids.origin) / grids.stride).round().maximum(grids.first[:, None])
        nearest = nearest.minimum(grids.stop[:, None] - 1)
        distance = (grids.origin + nearest * grids.stride - centre).abs()
        overlap = torch.minimum((larger + smaller) / 2 - distance, smaller).clamp(min=0).prod(-1)
        iou = overlap / (size.prod(-1) + grids.extent.prod(-1) - overlap).clamp(min=1e-6)
        iou = iou.where((grids.stop > grids.first).all(-1)[:, None], -1)  # a grid may lie in the padding as a whole
        is_best = iou >= iou.amax(-1, keepdim=True) * (1 - TIE)
        as_near = torch.maximum(distance, (larger - smaller) / 2)
        return torch.maximum(reach, as_near.where(is_best[..., None], -1))


def _all(priors: Priors, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Every prior as a candidate of boxes (B, G, 4): index (B, G, P), and which count."""
    index = torch.arange(len(priors), device=boxes.device).expand(*boxes.shape[:2], -1)
    is_valid = priors.valid_mask()
    if is_valid is None:
        return index, torch.ones_like(index, dtype=torch.bool)
    return index, is_valid[:, None].expand_as(index)
