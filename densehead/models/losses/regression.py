"""The losses of numbers against numbers."""

from __future__ import annotations

from torch import Tensor

from densehead.models.losses import functional
from densehead.models.losses.base import Loss
from densehead.registry import MODELS


class _ElementLoss(Loss):
    compares_boxes = True

    def forward(self, pred: Tensor, target: Tensor, *args, **kwargs) -> Tensor:
        """Return the loss of (N, ...) against (N, ...), element by element; see :meth:`Loss.forward`."""
        if pred.shape != target.shape:
            raise ValueError(
                f"{type(self).__name__} takes pred and target of one shape, but got {tuple(pred.shape)} and "
                f"{tuple(target.shape)}"
            )
        return super().forward(pred, target, *args, **kwargs)


@MODELS.register_module()
class L1Loss(_ElementLoss):
    """Absolute difference."""

    def per_element(self, pred: Tensor, target: Tensor) -> Tensor:
        return (pred - target).abs()


@MODELS.register_module()
class MSELoss(_ElementLoss):
    """Squared difference."""

    def per_element(self, pred: Tensor, target: Tensor) -> Tensor:
        return (pred - target) ** 2


@MODELS.register_module()
class SmoothL1Loss(_ElementLoss):
    """Absolute difference, quadratic below ``beta``: :func:`functional.smooth_l1_loss`.

    Args:
        beta: where the quadratic part ends, above 0.
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.
        loss_weight: factor of the result.

    Raises:
        ValueError: ``beta`` not above 0.
    """

    def __init__(self, beta: float = 1.0, reduction: str = "mean", loss_weight: float = 1.0) -> None:
        super().__init__(reduction, loss_weight)
        if beta <= 0:
            raise ValueError(f"beta of SmoothL1Loss must be above 0, but got {beta}: type='L1Loss' has no such part")
        self.beta = beta

    def per_element(self, pred: Tensor, target: Tensor) -> Tensor:
        return functional.smooth_l1_loss(pred, target, self.beta)
