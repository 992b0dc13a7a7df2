"""SimOTA's matching, and what the rules that end in it share.

A prior far from a ground truth may predict a box upon it, and then counts in the ground truth's ranking. So pairs are
not sorted out by where they lie; but a pair is only a few numbers, in tables (B, g, U) of a bounded number of ground
truths ``g`` at a time, and what depends on all classes is summed once a prior.
"""

from __future__ import annotations

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from densehead.compat import is_compiling
from densehead.models.assigners.base import AssignResult, BaseAssigner, no_truth
from densehead.models.assigners.candidates import LOW_BITS, chunks, pack, unpack
from densehead.models.assigners.iou import check_calculator
from densehead.models.assigners.pool import Pool, check_predictions, flat_predictions
from densehead.models.assigners.regions import inside_any
from densehead.ops import pairwise_iou
from densehead.structures import Assignment, Predictions, Priors, Targets

NO_KEY = torch.iinfo(torch.long).max
INFINITE = 0x7F800000 << 32  # float32's infinity in the upper half


class Matching:
    """SimOTA's matching: every ground truth takes its cheapest priors; a prior that several take is the cheapest's.

    The cheapest is sought among all ground truths, also those that did not take the prior. Ground truths may come a
    chunk at a time. Equal costs go to the lowest prior and to the lowest ground truth; infinite ones to none.

    Args:
        pool: U priors of each of B images.
        most: the largest number of priors that a ground truth takes.
    """

    def __init__(self, pool: Pool, most: int) -> None:
        device = pool.boxes.device
        self._place = torch.arange(pool.is_real.shape[1], device=device)
        self._rank = torch.arange(min(most, len(self._place)), device=device)
        self._takers = torch.zeros(pool.is_real.shape, dtype=torch.int32, device=device)
        self._taker = torch.full(pool.is_real.shape, -1, device=device)
        self._cheapest = torch.full_like(self._taker, NO_KEY)

    def enter(self, cost: Tensor, count: Tensor, first_truth: int = 0) -> None:
        """Let ground truths ``first_truth`` and following take priors.

        Args:
            cost: (B, g, U), not negative; infinite for no pair.
            count: (B, g) how many priors a ground truth takes.
            first_truth: see above.
        """
        truth = torch.arange(first_truth, first_truth + cost.shape[1], device=cost.device)[:, None]
        key = pack(cost, self._place).topk(len(self._rank), dim=-1, largest=False).values
        is_taken = (self._rank < count[..., None]) & (key < INFINITE)
        place = (key & LOW_BITS).flatten(1)
        self._takers.scatter_add_(1, place, is_taken.flatten(1).int())
        self._taker.scatter_reduce_(1, place, truth.where(is_taken, -1).flatten(1), "amax")
        self._cheapest = self._cheapest.minimum(_least(pack(cost, truth)))

    def result(self) -> Tensor:
        """Return (B, U): the ground truth that a prior answers for, or -1."""
        return unpack(self._cheapest)[1].where(self._takers > 1, self._taker)


def _least(key: Tensor) -> Tensor:
    """The minimum (B, U) of keys (B, g, U).

    On the CPU by halves: twenty times faster than amin, which has no fast int64 form there.
    """
    if key.device.type != "cpu" or is_compiling():
        return key.amin(1)
    while key.shape[1] > 1:
        half = key.shape[1] // 2
        halves = key[:, :half].minimum(key[:, half : 2 * half])
        key = torch.cat([halves, key[:, 2 * half :]], 1) if key.shape[1] % 2 else halves
    return key[:, 0]


def dynamic_count(iou: Tensor, topk: int) -> Tensor:
    """Return (B, g): how many priors a ground truth takes, the sum of its ``topk`` highest IoUs (B, g, U), at least 1.

    YOLOX (Ge et al., 2021), section 2.1, from OTA's dynamic k estimation (CVPR 2021, section 3.3).
    """
    return iou.topk(min(topk, iou.shape[-1]), dim=-1).values.sum(-1).int().clamp(min=1)


class DynamicAssigner(BaseAssigner):
    """A rule in which ground truths take the priors of the lowest cost, as many as the predictions are good.

    A subclass says which priors take part (``_regions``) and what a pair costs (``_read_classes``, ``_cost``). Pairs
    whose cost is not finite are none; a prior whose predicted box is not finite takes no part.

    Memory is bounded for any number of ground truths: the class scores of the priors that take part, and about a dozen
    tables of ``candidates.MAX_PAIRS`` numbers.
    """

    needs_predictions = True
    class_form = "scores"  # what mmdetection's form for one image takes: probabilities, or logits
    no_match_overlap: float

    def __init__(self, topk_key: str, topk: int, iou_weight: float, iou_calculator: dict | None) -> None:
        if topk < 1:
            raise ValueError(f"{type(self).__name__}.{topk_key} must be at least 1, but got {topk}")
        check_calculator(type(self).__name__, iou_calculator)
        self.topk = topk
        self.iou_weight = iou_weight

    @torch.no_grad()
    def __call__(self, priors: Priors, targets: Targets, predictions: Predictions | None = None) -> Assignment:
        """Assign every prior of every image; see the base class."""
        check_predictions(self, predictions)
        if not targets.max_count or not len(priors):
            return no_truth(priors, targets)
        pool = Pool.of(priors, predictions, inside_any(priors, targets, self._regions))
        classes = self._read_classes(pool, predictions)
        matching, is_out = Matching(pool, self.topk), _infinite(~pool.is_real)
        for part in chunks(targets.num_images, targets.max_count, pool.is_real.shape[1]):
            boxes = targets.boxes[:, part]
            iou = pairwise_iou(boxes, pool.boxes)
            cost = self._cost(pool, classes, boxes, targets.labels[:, part], iou)
            cost += is_out[:, None]
            cost += _infinite(~targets.is_valid[:, part, None])
            cost.nan_to_num_(nan=torch.inf, posinf=torch.inf).clamp_(min=0)  # log(1 + eps) is a little below 0
            matching.enter(cost, dynamic_count(iou, self.topk), part.start)
        return pool.assignment(matching.result(), targets)

    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        num_level_priors: list[int] | None = None,
        **kwargs,
    ) -> AssignResult:
        """Assign the priors of one image; see the base class.

        Args:
            pred_instances: ``priors`` (P, 4), points followed by their strides, pixels; ``bboxes`` (P, 4) predicted,
                xyxy in pixels; ``scores`` (P, C), see ``class_form``.
            gt_instances, gt_instances_ignore: as in the base class; regions to ignore have no meaning in this rule.
            num_level_priors: number of priors of each level; from the strides if None.
            kwargs: what other assigners take.
        """
        points = pred_instances.priors
        priors = Priors.from_points(points[:, :2], points[:, 2], num_level_priors)
        predictions = flat_predictions(self, pred_instances, self.class_form)
        return self._assign_one(priors, gt_instances, gt_instances_ignore, predictions)

    def _regions(self, boxes: Tensor, strides: Tensor) -> list[tuple[Tensor, Tensor]]:
        """Around boxes, the regions within which priors take part; see :func:`inside_any`."""
        raise NotImplementedError

    def _read_classes(self, pool: Pool, predictions: Predictions):
        """What :meth:`_cost` needs to know of the classes, read once."""
        raise NotImplementedError

    def _cost(self, pool: Pool, classes, boxes: Tensor, labels: Tensor, iou: Tensor) -> Tensor:
        """A new (B, g, U): the cost of pairs of boxes (B, g, 4), labels (B, g) with the pool, of the IoUs (B, g, U)."""
        raise NotImplementedError

    def _public_overlaps(self, overlaps: Tensor, is_positive: Tensor) -> Tensor:
        return overlaps.where(is_positive | ~is_positive.any(), self.no_match_overlap)


def _infinite(mask: Tensor) -> Tensor:
    return torch.zeros(mask.shape, device=mask.device).masked_fill_(mask, torch.inf)
