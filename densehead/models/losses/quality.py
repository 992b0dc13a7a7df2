"""Losses that learn the quality of a box with its class, or the distribution of its sides."""

from __future__ import annotations

import torch
from torch import Tensor

from densehead.models.losses import functional
from densehead.models.losses.base import Loss, in_float32, weighted_reduction
from densehead.models.losses.dense import quality_matrix
from densehead.models.losses.focal import FocalFamily
from densehead.registry import MODELS
from densehead.structures.level_tensor import LevelTensor


def _need_sigmoid(module: Loss, use_sigmoid: bool) -> None:
    if not use_sigmoid:
        raise ValueError(f"{type(module).__name__} has use_sigmoid=True only")


@MODELS.register_module()
class QualityFocalLoss(FocalFamily):
    """Focal loss of soft targets, one value a row: :func:`functional.quality_focal_loss`.

    Args:
        use_sigmoid: must be True.
        beta: focusing exponent.
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.
        loss_weight: factor of the result.
        activated: whether predictions have been through the sigmoid.

    Raises:
        ValueError: ``use_sigmoid=False``.
    """

    def __init__(
        self,
        use_sigmoid: bool = True,
        beta: float = 2.0,
        reduction: str = "mean",
        loss_weight: float = 1.0,
        activated: bool = False,
    ) -> None:
        super().__init__(reduction, loss_weight)
        _need_sigmoid(self, use_sigmoid)
        self.use_sigmoid = use_sigmoid
        self.beta = beta
        self.activated = activated

    def forward(self, pred: Tensor, target: Tensor | tuple[Tensor, Tensor], *args, **kwargs) -> Tensor:
        """Return the loss of (N, C); see :meth:`Loss.forward`.

        Args:
            pred: (N, C).
            target: (N, C) qualities; or labels (N,), of which those outside [0, C) are background, and qualities (N,).
            *args: of :meth:`Loss.forward`.
            **kwargs: of :meth:`Loss.forward`.
        """
        if not isinstance(target, Tensor):
            label, quality = target
            target = quality_matrix(label, in_float32(quality), pred.shape[1])
        return super().forward(pred, target, *args, **kwargs)

    def per_element(self, pred: Tensor, target: Tensor) -> Tensor:
        target = target.to(pred.dtype)
        return functional.quality_focal_loss(pred, target, self.beta, self.activated).sum(1)

    @property
    def focus(self) -> float:
        return self.beta

    def positive_term(self, logits: Tensor, quality: Tensor | None) -> Tensor:
        return functional.quality_focal_loss(logits, quality.to(logits.dtype), self.beta)

    def num_losses(self, logits: LevelTensor) -> int:
        return super().num_losses(logits) // logits.channels  # one a row


@MODELS.register_module()
class VarifocalLoss(FocalFamily):
    """Focal loss of negatives, cross entropy of qualities at positives: :func:`functional.varifocal_loss`.

    Args:
        use_sigmoid: must be True.
        alpha: weight of the negatives.
        gamma: focusing exponent of the negatives.
        iou_weighted: whether positives weigh by their quality.
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.
        loss_weight: factor of the result.

    Raises:
        ValueError: ``use_sigmoid=False``, or a negative ``alpha``.
    """

    def __init__(
        self,
        use_sigmoid: bool = True,
        alpha: float = 0.75,
        gamma: float = 2.0,
        iou_weighted: bool = True,
        reduction: str = "mean",
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(reduction, loss_weight)
        _need_sigmoid(self, use_sigmoid)
        if alpha < 0:
            raise ValueError(f"alpha of VarifocalLoss must not be negative, but got {alpha}")
        self.use_sigmoid = use_sigmoid
        self.alpha = alpha
        self.gamma = gamma
        self.iou_weighted = iou_weighted

    def per_element(self, pred: Tensor, target: Tensor) -> Tensor:
        return functional.varifocal_loss(pred, target.to(pred.dtype), self.alpha, self.gamma, self.iou_weighted)

    @property
    def negative_weight(self) -> float:
        return self.alpha

    @property
    def focus(self) -> float:
        return self.gamma

    def positive_term(self, logits: Tensor, quality: Tensor | None) -> Tensor:
        return self.per_element(logits, quality)


@MODELS.register_module()
class DistributionFocalLoss(Loss):
    """Cross entropy of the two bins around a distance: :func:`functional.distribution_focal_loss`."""

    def per_element(self, pred: Tensor, target: Tensor) -> Tensor:
        return functional.distribution_focal_loss(pred, target)

    def with_mean(self, pred: Tensor, target: Tensor, weight: Tensor, avg_factor: Tensor) -> tuple[Tensor, Tensor]:
        """Return the loss, and (N,) the expected bins of the distributions ``pred`` (N, R + 1), from one softmax."""
        with torch.autocast(pred.device.type, enabled=False):
            mean, loss = functional.mean_and_focal_loss(in_float32(pred), in_float32(target))
            return self.loss_weight * weighted_reduction(loss, weight, self.reduction, avg_factor), mean
