"""Box sides as distributions over bins: what GFL and NanoDet-Plus share."""

from __future__ import annotations

import logging

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from densehead.compat import is_compiling
from densehead.models.losses import DistributionFocalLoss
from densehead.ops import aligned_iou
from densehead.structures import Positives, Predictions, Priors, Targets


class Integral(nn.Module):
    """The expected distance of a distribution over the bins 0 to ``reg_max`` (GFL, equation 3).

    Args:
        reg_max: the last bin, in strides.
    """

    def __init__(self, reg_max: int = 16) -> None:
        super().__init__()
        self.reg_max = reg_max
        self.register_buffer("project", torch.linspace(0, reg_max, reg_max + 1))

    def forward(self, x: Tensor) -> Tensor:
        """Return (..., 4) distances in bins, in float32, of logits (..., 4 * (reg_max + 1))."""
        bins = x.unflatten(-1, (4, self.reg_max + 1)).float().softmax(-1)
        return (bins * self.project.float()).sum(-1)


class DistributionBoxes:
    """What is particular to heads that put out ``box_logits``: 4 * (reg_max + 1) numbers a prior.

    A mixin of :class:`~densehead.models.heads.base.DenseHead`, for heads with ``integral``, ``bbox_coder``,
    ``loss_bbox`` and ``loss_dfl``.
    """

    def check_reg_max(self, reg_max: int) -> None:
        """Raise a ValueError where distributions have no two bins."""
        if reg_max < 1:
            raise ValueError(f"bbox_head.reg_max must be at least 1 (the last bin of the distances), but got {reg_max}")

    def boxes_at(self, predictions: Predictions, priors: Priors, image_index: Tensor, prior_index: Tensor) -> Tensor:
        """See the base class."""
        distances = self.integral(predictions["box_logits"].at(image_index, prior_index))
        return self.bbox_coder.decode(priors.points[prior_index], distances * priors.strides[prior_index, None])

    def box_losses(
        self, predictions: Predictions, priors: Priors, targets: Targets, positives: Positives
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Return ``loss_bbox`` and ``loss_dfl``, each positive weighted by its highest class score (GFL, section 3.2
        of the supplement), which is also what they are divided by; and (N,) the IoUs of the boxes with their truth.
        """
        index = positives.image_index, positives.prior_index
        with torch.no_grad():
            weight = self._highest_score(predictions, *index)
            weight_sum = self._mean_over_ranks(weight.sum(), 1.0)
        stride = priors.strides[positives.prior_index, None]
        points, truth = priors.points[positives.prior_index] / stride, positives.boxes / stride
        self.reach.watch(points, truth, positives, targets)
        logits = predictions["box_logits"].at(*index).float()
        loss_dfl, distances = self._loss_dfl(
            logits, self.bbox_coder.encode(points, truth, self.integral.reg_max), weight, weight_sum
        )
        boxes = self.bbox_coder.decode(points, distances)
        loss_bbox = self.loss_bbox(boxes, truth, weight=weight, avg_factor=weight_sum)
        return dict(loss_bbox=loss_bbox, loss_dfl=loss_dfl), aligned_iou(boxes.detach(), truth)

    def _highest_score(self, predictions: Predictions, image_index: Tensor, prior_index: Tensor) -> Tensor:
        if not self.use_sigmoid_cls:
            return predictions.scores_at(image_index, prior_index).amax(-1)
        # the score grows with the logit: one sigmoid is enough
        return predictions["cls_logits"].at(image_index, prior_index).amax(-1).float().sigmoid()

    def _loss_dfl(self, logits: Tensor, truth: Tensor, weight: Tensor, weight_sum: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss of logits (N, 4 * (reg_max + 1)) that should say ``truth`` (N, 4), and what they say."""
        sides = logits.view(-1, self.integral.reg_max + 1), truth.flatten(), weight.repeat_interleave(4), 4 * weight_sum
        if type(self.loss_dfl) is DistributionFocalLoss:
            loss, distances = self.loss_dfl.with_mean(*sides)
            return loss, distances.view(-1, 4)
        return self.loss_dfl(*sides[:2], weight=sides[2], avg_factor=sides[3]), self.integral(logits)


class ReachWatch:
    """Warns once where objects reach farther from their points than distributions can say.

    Counts stay on the device. They are read after the first batch and then ever more rarely (after 10, 100, ...), since
    reading makes a GPU wait.

    Args:
        reg_max: the last bin, in strides.
    """

    def __init__(self, reg_max: int) -> None:
        self.reg_max = reg_max
        self.batches = 0
        self.counts: Tensor | int = 0  # objects that reach beyond, objects
        self.has_warned = False
        self._counted: Targets | None = None

    @torch.no_grad()
    def watch(self, points: Tensor, boxes: Tensor, positives: Positives, targets: Targets) -> None:
        """Count the ground truths of a batch.

        Args:
            points: (N, 2) of the positives, in strides.
            boxes: (N, 4) their truth, in strides.
            positives: the positives.
            targets: the truth.
        """
        if self.has_warned or not targets.max_count or targets is self._counted:  # an auxiliary head's come again
            return
        if is_compiling():  # which would compile anew for every number of batches
            return
        self._counted = targets
        farthest = torch.cat([points - boxes[:, :2], boxes[:, 2:] - points], -1).amax(-1)
        reach = farthest.new_zeros(targets.num_images * targets.max_count)
        truth = positives.image_index * targets.max_count + positives.gt_index
        reach.scatter_reduce_(0, truth, farthest, "amax")
        count = torch.stack([(reach > self.reg_max).sum(), targets.is_valid.sum()])
        seen = self.counts.to(count.device) if isinstance(self.counts, Tensor) else self.counts  # the head may move
        self.counts = seen + count
        self.batches += 1
        if self.batches in (1, 10, 100, 1000, 10000):
            self._warn_of(*self.counts.tolist())

    def _warn_of(self, beyond: int, total: int) -> None:
        if not beyond:
            return
        self.has_warned = True
        print_log(
            f"{beyond} of {total} ground truths in the first {self.batches} batch(es) reach farther from one of their "
            f"positives than bbox_head.reg_max={self.reg_max} strides: such a side is trained to end there. Give "
            "bbox_head a larger reg_max or the model coarser levels (strides), or leave it where this is rare",
            logger="current",
            level=logging.WARNING,
        )
