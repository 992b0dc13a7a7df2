"""SimOTA: as many priors for a ground truth as its predictions are good, those of the lowest cost."""

from __future__ import annotations

import torch
from torch import Tensor

from densehead.models.assigners.dynamic import DynamicAssigner
from densehead.models.assigners.pool import Pool, class_parts, own_rows
from densehead.registry import TASK_UTILS
from densehead.structures import Predictions

OUTSIDE = 1e5  # cost of a prior outside of a ground truth's box or centre region
EPS = 1e-7


@TASK_UTILS.register_module()
class SimOTAAssigner(DynamicAssigner):
    """Simplified optimal transport assignment (YOLOX, Ge et al., 2021, section 2.1).

    Priors that lie in any ground truth's box or centre region take part. A pair costs the cross entropy of the prior's
    classes with the ground truth's, plus the negative logarithm of the IoU of the predicted box, plus a large constant
    unless the prior lies in both the box and the centre region of this ground truth. The sum of the ``candidate_topk``
    highest IoUs says how many priors a ground truth takes; see :class:`Matching` for how they are matched.

    Args:
        center_radius: reach of the centre region, in strides of the prior's level.
        candidate_topk: how many of the highest IoUs count.
        iou_weight: of the IoU's part of the cost.
        cls_weight: of the classes' part.
        iou_calculator: ``BboxOverlaps2D``.

    Raises:
        ValueError: ``candidate_topk`` below 1, ``center_radius`` not positive, another ``iou_calculator``.
    """

    no_match_overlap = -1e5

    def __init__(
        self,
        center_radius: float = 2.5,
        candidate_topk: int = 10,
        iou_weight: float = 3.0,
        cls_weight: float = 1.0,
        iou_calculator: dict | None = None,
    ) -> None:
        super().__init__("candidate_topk", candidate_topk, iou_weight, iou_calculator)
        if center_radius <= 0:
            raise ValueError(f"SimOTAAssigner.center_radius must be positive, but got {center_radius}")
        self.center_radius = center_radius
        self.cls_weight = cls_weight

    def _regions(self, boxes: Tensor, strides: Tensor) -> list[tuple[Tensor, Tensor]]:
        centre, reach = (boxes[..., :2] + boxes[..., 2:]) / 2, strides * self.center_radius
        return [(boxes[..., :2], boxes[..., 2:]), (centre - reach, centre + reach)]

    def _read_classes(self, pool: Pool, predictions: Predictions) -> Tensor:
        """(B, C, U): the classes' part of the cost, for a ground truth of each class."""
        scores = pool.take(predictions.scores())
        cost, all_absent = torch.empty_like(scores), scores.new_zeros(scores.shape[0], 1, scores.shape[2])
        for part in class_parts(scores):
            absent = (-scores[:, part]).log1p_().clamp_(min=-100).neg_()  # of a class that is not the truth's
            cost[:, part] = scores[:, part].log().clamp_(min=-100).neg_().sub_(absent)
            all_absent += absent.sum(1, keepdim=True)
        return cost.add_(all_absent).mul_(self.cls_weight)

    def _cost(self, pool: Pool, classes: Tensor, boxes: Tensor, labels: Tensor, iou: Tensor) -> Tensor:
        cost = own_rows(classes, labels)
        cost.sub_((iou + EPS).log_(), alpha=self.iou_weight)
        return cost.add_(self._margin(pool, boxes) <= 0, alpha=OUTSIDE)

    def _margin(self, pool: Pool, boxes: Tensor) -> Tensor:
        """(B, g, U): how far inside both the box and the centre region of ground truths the pool's priors lie."""
        reach, margin = pool.strides[:, None] * self.center_radius, None
        for axis in (0, 1):
            low, high, point = boxes[..., axis, None], boxes[..., axis + 2, None], pool.points[:, None, :, axis]
            centre = (low + high) / 2
            low, high = (centre - reach).maximum(low), (centre + reach).minimum(high)
            least = (point - low).minimum(high - point)
            margin = least if margin is None else margin.minimum(least)
        return margin
