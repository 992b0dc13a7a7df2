"""The IoU thresholds of RetinaNet and of region proposal networks."""

from __future__ import annotations

import torch
from torch import Tensor

from densehead.models.assigners.base import BaseAssigner, no_truth
from densehead.models.assigners.candidates import Contest
from densehead.models.assigners.iou import check_calculator, ignored_priors
from densehead.models.assigners.overlaps import TINY, Pairs, overlapping_pairs, pairs_on_grids
from densehead.registry import TASK_UTILS
from densehead.structures import IGNORED, NEGATIVE, Assignment, Predictions, Priors, Targets


@TASK_UTILS.register_module()
class MaxIoUAssigner(BaseAssigner):
    """Assign a prior to the ground truth of highest IoU, if that is high enough (Faster R-CNN, section 3.1.2).

    A prior whose highest IoU reaches ``pos_iou_thr`` is positive, one below ``neg_iou_thr`` negative, one between them
    ignored. Then (``match_low_quality``) every ground truth takes the priors of its own highest IoU, if that reaches
    ``min_pos_iou``; where several want the same prior, the last one gets it.

    On grids a ground truth is compared with the priors around it that can reach the lowest threshold at all; IoUs below
    it stand as 0 in :attr:`Assignment.overlaps`. How many there are depends on the boxes, so on CUDA the windows' size
    and the number of pairs that count are read back. A ground truth that overlaps no prior gets none (mmdetection gives
    it, at ``min_pos_iou`` 0, every prior of IoU 0).

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
        own = torch.full((targets.num_images * len(priors),), -1, device=device)  # low-quality matches
        # a prior that a region excludes leaves the closed form's best prior of a ground truth undecided
        if priors.grids and is_ignored is None:
            lowest = self._lowest()
            found = pairs_on_grids(priors, targets, lowest, with_best=self.match_low_quality)
        else:
            lowest, found = TINY, overlapping_pairs(priors, targets, _excluded(priors, is_ignored))
        for pairs in found:
            self._enter(pairs, lowest, targets.is_valid.numel(), best, own)
        truth, iou = best.result()
        assignment = self._decide(_in_image(truth, targets), iou, _in_image(own.view_as(truth), targets))
        if is_ignored is not None:
            assignment = assignment.ignoring(~is_ignored)
            assignment.overlaps.masked_fill_(is_ignored, -1)
        return assignment.ignoring(priors.valid_mask())

    def _enter(self, pairs: Pairs, lowest: float, num_truths: int, best: Contest, own: Tensor) -> None:
        """Enter the pairs whose overlap matters into the contest of the priors and the matches of the truths."""
        highest = pairs.iou.new_zeros(num_truths).scatter_reduce_(0, pairs.truth, pairs.iou, "amax")
        highest = highest.index_select(0, pairs.truth)
        wanted = highest.clamp(min=TINY, max=lowest) if self.match_low_quality else lowest
        best.enter(pairs.place, pairs.truth, pairs.iou.where(pairs.iou >= wanted, -1))  # which loses to no bid
        if self.match_low_quality:
            is_own = (pairs.iou == highest) & (pairs.iou >= max(self.min_pos_iou, TINY))
            if not self.gt_max_assign_all:
                first = pairs.place.new_full((num_truths,), len(own))
                first.scatter_reduce_(0, pairs.truth, pairs.place.where(is_own, len(own)), "amin")
                is_own &= pairs.place == first[pairs.truth]
            own.scatter_reduce_(0, pairs.place, pairs.truth.where(is_own, -1), "amax")

    def _lowest(self) -> float:
        """The lowest IoU that a threshold asks for."""
        return max(min(self.pos_iou_thr, self.neg_iou_range[0] or self.neg_iou_range[1]), 1e-6)

    def _decide(self, truth: Tensor, iou: Tensor, own: Tensor) -> Assignment:
        """Apply the thresholds to the best ground truth (B, P) of every prior, and the low-quality matches."""
        low, high = self.neg_iou_range
        index = torch.full_like(truth, IGNORED).masked_fill((iou >= low) & (iou < high), NEGATIVE)
        index = truth.where((iou >= self.pos_iou_thr) & (truth >= 0), index)
        leaves_none = low <= 0 < high and self.pos_iou_thr <= high
        return Assignment(own.where(own >= 0, index), iou, has_ignored=not leaves_none)


def _excluded(priors: Priors, is_ignored: Tensor | None) -> Tensor | None:
    """(B, P) bool, True where a prior does not count or lies in a region to ignore; None where none does."""
    is_valid = priors.valid_mask()
    if is_valid is None:
        return is_ignored
    return ~is_valid if is_ignored is None else is_ignored | ~is_valid


def _in_image(truth: Tensor, targets: Targets) -> Tensor:
    """(B, P) which of its image's ground truths, of which of all (B * G,); -1 stays."""
    first = torch.arange(targets.num_images, device=truth.device)[:, None] * targets.max_count
    return (truth - first).where(truth >= 0, -1)
