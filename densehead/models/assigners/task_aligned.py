"""TOOD's rule: the priors whose class score and predicted box agree best with a ground truth."""

from __future__ import annotations

import copy

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from densehead.models.assigners.base import AssignResult, BaseAssigner, no_truth
from densehead.models.assigners.candidates import LOW_BITS, Contest, chunks, pack
from densehead.models.assigners.iou import check_calculator
from densehead.models.assigners.pool import Pool, check_predictions, flat_predictions, own_rows
from densehead.ops import pairwise_iou
from densehead.registry import TASK_UTILS
from densehead.structures import Assignment, Predictions, Priors, Targets, box_tensor

SMALLEST_MARGIN = 0.01  # pixels by which a positive's centre lies inside its ground truth


@TASK_UTILS.register_module()
class TaskAlignedAssigner(BaseAssigner):
    """Task alignment learning (TOOD, Feng et al., ICCV 2021, section 3.2, equation 3).

    A ground truth takes the ``topk`` priors of the highest alignment ``score ** alpha * iou ** beta``, of which those
    with a centre inside of it and an alignment above 0 are positive. A prior that several take goes to the one of the
    highest IoU. Priors outside a ground truth take places in its ranking if they predict a box upon it.

    Memory is bounded for any number of ground truths: what all priors predict, and about a dozen tables of
    ``candidates.MAX_PAIRS`` numbers. Scores and boxes that are not finite align with nothing.

    Args:
        topk: see above; over all levels together.
        iou_calculator: ``BboxOverlaps2D``.
        alpha, beta: exponents of the alignment.

    Raises:
        ValueError: ``topk`` below 1, another ``iou_calculator``.
    """

    needs_predictions = True

    def __init__(self, topk: int, iou_calculator: dict | None = None, *, alpha: float = 1, beta: float = 6) -> None:
        if topk < 1:
            raise ValueError(f"TaskAlignedAssigner.topk must be at least 1, but got {topk}")
        check_calculator("TaskAlignedAssigner", iou_calculator)
        self.topk = topk
        self.alpha = alpha
        self.beta = beta

    @torch.no_grad()
    def __call__(self, priors: Priors, targets: Targets, predictions: Predictions | None = None) -> Assignment:
        """Assign every prior of every image; see the base class."""
        check_predictions(self, predictions)
        if not targets.max_count or not len(priors):
            return no_truth(priors, targets)
        is_valid = priors.valid_mask()
        if is_valid is None:
            is_valid = torch.ones(targets.num_images, len(priors), dtype=torch.bool, device=priors.points.device)
        pool = Pool.of(priors, predictions, is_valid)
        scores = pool.take(predictions.scores())
        contest = Contest(*pool.is_real.shape, is_valid.device)
        for part in chunks(targets.num_images, targets.max_count, pool.is_real.shape[1]):
            boxes = targets.boxes[:, part]
            iou = pairwise_iou(boxes, pool.boxes)
            alignment = self._alignment(own_rows(scores, targets.labels[:, part]), iou)
            place, is_aligned = _highest(alignment, self.topk)
            is_match = is_aligned & _is_inside(pool, place, boxes) & targets.is_valid[:, part, None]
            contest.bid(place, iou.gather(2, place), is_match, part.start)
        return pool.assignment(contest.result()[0], targets)

    @torch.no_grad()  # mmdetection's TOOD hands over predictions that require gradients
    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        alpha: float | None = None,
        beta: float | None = None,
        **kwargs,
    ) -> AssignResult:
        """Assign the priors of one image; see the base class.

        Args:
            pred_instances: ``priors`` (P, 4) and, as predicted, ``bboxes`` (P, 4), both xyxy in pixels; ``scores``
                (P, C) probabilities.
            gt_instances, gt_instances_ignore: as in the base class; regions to ignore have no meaning in this rule.
            alpha, beta: in place of the assigner's own.
            kwargs: what other assigners take.

        Returns:
            With ``assign_metrics`` (P,), the alignment of the positives and 0 elsewhere.
        """
        rule = copy.copy(self)
        rule.alpha, rule.beta = self.alpha if alpha is None else alpha, self.beta if beta is None else beta
        predictions = flat_predictions(self, pred_instances, "scores")
        priors = Priors.from_boxes(box_tensor(pred_instances.priors)[:, :4])
        result = rule._assign_one(priors, gt_instances, gt_instances_ignore, predictions)
        own = pred_instances.scores.gather(1, result.labels.clamp(min=0)[:, None])[:, 0]
        metrics = rule._alignment(own, result.max_overlaps)
        result.assign_metrics = metrics.where(result.labels >= 0, 0)
        return result

    def _alignment(self, scores: Tensor, iou: Tensor) -> Tensor:
        """Alignment of scores with IoUs, of one shape; 0 where it is not finite."""
        alignment = scores**self.alpha * (iou ** (self.beta / 2)).square()  # cubes are much faster than 6th powers
        return alignment.nan_to_num_(nan=0, posinf=0)

    def _public_overlaps(self, overlaps: Tensor, is_positive: Tensor) -> Tensor:
        return overlaps.where(is_positive, -1e8)


def _highest(alignment: Tensor, topk: int) -> tuple[Tensor, Tensor]:
    """Places (B, g, K) of the highest of alignments (B, g, U), equal ones by place, and whether they are above 0."""
    place = torch.arange(alignment.shape[-1], device=alignment.device)
    key = pack(alignment, LOW_BITS - place).topk(min(topk, len(place)), dim=-1).values
    return LOW_BITS - (key & LOW_BITS), key > LOW_BITS


def _is_inside(pool: Pool, place: Tensor, boxes: Tensor) -> Tensor:
    """(B, g, K) bool: whether priors at places (B, g, K) of the pool lie inside boxes (B, g, 4)."""
    x, y = (pool.points[:, None, :, axis].expand(-1, place.shape[1], -1).gather(2, place) for axis in (0, 1))
    left, top, right, bottom = boxes[..., None, :].unbind(-1)
    margin = torch.stack([x - left, y - top, right - x, bottom - y]).amin(0)
    return margin > SMALLEST_MARGIN
