"""The dynamic soft label assigner of NanoDet-Plus and RTMDet: SimOTA's matching by a cost of soft labels."""

from __future__ import annotations

import math

from torch import Tensor
from torch.nn.functional import softplus

from densehead.models.assigners.dynamic import DynamicAssigner
from densehead.models.assigners.pool import Pool, class_parts, own_rows
from densehead.registry import TASK_UTILS
from densehead.structures import Predictions

EPS = 1e-7


@TASK_UTILS.register_module()
class DynamicSoftLabelAssigner(DynamicAssigner):
    """Dynamic soft label assignment (NanoDet-Plus; RTMDet, Lyu et al., 2022, section 3.3, equations 1 to 4).

    Priors that lie in any ground truth's box take part. A pair costs the quality focal loss (beta 2) of the prior's
    classes, where the label is the IoU of the predicted box, plus the weighted negative logarithm of that IoU, plus
    ``10 ** (distance - soft_center_radius)`` of the distance between their centres in strides. The rest is SimOTA's.

    Args:
        soft_center_radius: distance, in strides, from which it is the distance that decides.
        topk: how many of the highest IoUs say how many priors a ground truth takes.
        iou_weight: of the IoU's part of the cost.
        iou_calculator: ``BboxOverlaps2D``.

    Raises:
        ValueError: ``topk`` below 1, another ``iou_calculator``.
    """

    class_form = "logits"
    no_match_overlap = -1e8

    def __init__(
        self,
        soft_center_radius: float = 3.0,
        topk: int = 13,
        iou_weight: float = 3.0,
        iou_calculator: dict | None = None,
    ) -> None:
        super().__init__("topk", topk, iou_weight, iou_calculator)
        self.soft_center_radius = soft_center_radius

    def _regions(self, boxes: Tensor, strides: Tensor) -> list[tuple[Tensor, Tensor]]:
        return [(boxes[..., :2], boxes[..., 2:])]

    def _read_classes(self, pool: Pool, predictions: Predictions) -> tuple[Tensor, Tensor]:
        """The logits (B, C, U), and (B, 1, U) what all classes cost where none is the truth's."""
        logits = pool.take(predictions.logits())
        absent = logits.new_zeros(logits.shape[0], 1, logits.shape[2])
        for part in class_parts(logits):
            absent += softplus(logits[:, part]).mul_(logits[:, part].sigmoid().square_()).sum(1, keepdim=True)
        return logits, absent

    def _cost(self, pool: Pool, classes: tuple[Tensor, Tensor], boxes: Tensor, labels: Tensor, iou: Tensor) -> Tensor:
        logits, absent = classes
        own = own_rows(logits, labels)
        score = own.sigmoid()
        entropy = softplus(own)
        cost = absent - entropy * score.square()
        cost += entropy.sub_(own.mul_(iou)).mul_((iou - score).square_())
        cost.sub_((iou + EPS).log_(), alpha=self.iou_weight)
        return cost.add_(self._distance(pool, boxes).sub_(self.soft_center_radius).mul_(math.log2(10)).exp2_())

    def _distance(self, pool: Pool, boxes: Tensor) -> Tensor:
        """(B, g, U): from ground truths' centres to the pool's priors, in strides of the prior's level."""
        centre = (boxes[..., :2] + boxes[..., 2:]) / 2
        x, y = (pool.points[:, None, :, axis] - centre[..., axis, None] for axis in (0, 1))
        return x.square_().add_(y.square_()).sqrt_().div_(pool.strides[:, None])
