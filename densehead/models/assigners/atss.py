"""ATSS: an IoU threshold for each ground truth, from the statistics of the priors nearest to it."""

from __future__ import annotations

import torch
from torch import Tensor

from densehead.models.assigners.base import BaseAssigner, no_truth
from densehead.models.assigners.candidates import Contest, chunks, nearest
from densehead.models.assigners.iou import check_calculator, ignored_priors
from densehead.ops import aligned_iou
from densehead.registry import TASK_UTILS
from densehead.structures import Assignment, Predictions, Priors, Targets

INF = 1e8


@TASK_UTILS.register_module()
class ATSSAssigner(BaseAssigner):
    """Adaptive training sample selection (ATSS, algorithm 1).

    The ``topk`` priors of each level nearest to a ground truth are its candidates. Those whose IoU with it reaches the
    mean plus the standard deviation of the candidates' IoUs, and whose centre lies inside it, are positive. A prior
    that several want goes to the one of the highest IoU.

    On grids the candidates come in closed form, and the cost is that of ground truths times levels times ``topk``.
    Where regions to ignore take part (``ignore_iof_thr`` > 0 and an image has some), or the priors form no grid, all
    distances are computed, a bounded number of ground truths at a time.

    Args:
        topk: candidates of each level.
        alpha: not supported here (the cost of DDOD, which mixes scores in).
        iou_calculator: ``BboxOverlaps2D``.
        ignore_iof_thr: priors of which a larger share than this lies in a region to ignore are ignored; off if
            not positive.

    Raises:
        ValueError: ``topk`` below 1, or a key with a value that is not supported.
    """

    needs_extent = True

    def __init__(
        self, topk: int, alpha: float | None = None, iou_calculator: dict | None = None, ignore_iof_thr: float = -1
    ) -> None:
        if topk < 1:
            raise ValueError(f"ATSSAssigner.topk must be at least 1, but got {topk}")
        if alpha is not None:
            raise ValueError(f"ATSSAssigner.alpha (DDOD's cost) is not supported: leave it None, not {alpha}")
        check_calculator("ATSSAssigner", iou_calculator)
        self.topk = topk
        self.ignore_iof_thr = ignore_iof_thr

    def __call__(self, priors: Priors, targets: Targets, predictions: Predictions | None = None) -> Assignment:
        """Assign every prior of every image; see the base class."""
        if not targets.max_count or not len(priors):
            return no_truth(priors, targets)
        is_ignored = ignored_priors(priors, targets, self.ignore_iof_thr)
        is_excluded = _or(is_ignored, priors.valid_mask())
        on_grid = priors.grids and is_ignored is None
        pairs = self.topk * priors.num_levels if on_grid else len(priors)
        contest = Contest(targets.num_images, len(priors), priors.points.device)
        for part in chunks(targets.num_images, targets.max_count, pairs):
            boxes = targets.boxes[:, part]
            if on_grid:
                index, is_real = nearest(priors, (boxes[..., :2] + boxes[..., 2:]) / 2, self.topk)
            else:
                index, is_real = _nearest_of_all(priors, boxes, self.topk, is_excluded)
            index, is_real = index.flatten(2), is_real.flatten(2)
            iou = aligned_iou(_rows(priors.boxes, index), boxes[:, :, None])
            is_positive = is_real & (iou >= _threshold(iou, is_real)) & _is_inside(_rows(priors.points, index), boxes)
            contest.bid(index, iou, is_positive & targets.is_valid[:, part, None], part.start)
        truth, iou = contest.result()
        assignment = Assignment(truth, iou).ignoring(priors.valid_mask())
        return assignment if is_ignored is None else assignment.ignoring(~is_ignored | assignment.is_positive)

    def assign(self, pred_instances, num_level_priors, gt_instances, gt_instances_ignore=None):
        """Assign the priors of one image; see the base class for all but the order of the arguments."""
        return super().assign(pred_instances, gt_instances, gt_instances_ignore, num_level_priors)

    def _public_overlaps(self, overlaps: Tensor, is_positive: Tensor) -> Tensor:
        return overlaps.where(is_positive, -INF)


def _threshold(iou: Tensor, is_real: Tensor) -> Tensor:
    """Mean plus standard deviation (unbiased) of the candidates' IoUs (B, G, M) of each ground truth, (B, G, 1)."""
    count = is_real.sum(-1, keepdim=True)
    iou = iou.where(is_real, 0)
    mean = iou.sum(-1, keepdim=True) / count
    variance = ((iou - mean).where(is_real, 0) ** 2).sum(-1, keepdim=True) / (count - 1).clamp(min=1)
    return mean + variance.sqrt()


def _is_inside(points: Tensor, boxes: Tensor) -> Tensor:
    """(B, G, M) bool: whether points (B, G, M, 2) lie inside boxes (B, G, 4), by a hundredth of a pixel."""
    to_low, to_high = points - boxes[..., None, :2], boxes[..., None, 2:] - points
    return torch.minimum(to_low, to_high).amin(-1) > 0.01


def _rows(table: Tensor, index: Tensor) -> Tensor:
    """Rows (..., n) of a table (P, n); on the CPU twice as fast as ``table[index]``."""
    return table.index_select(0, index.flatten()).unflatten(0, index.shape)


def _nearest_of_all(priors: Priors, boxes: Tensor, topk: int, is_excluded: Tensor | None) -> tuple[Tensor, Tensor]:
    """What ``nearest`` finds, from all distances: index (B, G, sum of K) and whether the place holds a candidate."""
    centres = (boxes[..., :2] + boxes[..., 2:]) / 2
    distance = (priors.points - centres[:, :, None]).square().sum(-1).sqrt()  # (B, G, P)
    if is_excluded is not None:
        distance = distance.masked_fill(is_excluded[:, None], INF)
    index, start = [], 0
    for level in distance.split(priors.num_level_priors, -1):
        order = level.sort(dim=-1, stable=True).indices[..., :topk]
        index.append(order + start)
        start += level.shape[-1]
    index = torch.cat(index, -1)
    is_valid = priors.valid_mask()
    if is_valid is None:
        return index, torch.ones_like(index, dtype=torch.bool)
    return index, is_valid[:, None].expand(-1, index.shape[1], -1).gather(-1, index)


def _or(is_ignored: Tensor | None, is_valid: Tensor | None) -> Tensor | None:
    if is_ignored is None or is_valid is None:
        return is_ignored if is_valid is None else ~is_valid
    return is_ignored | ~is_valid
