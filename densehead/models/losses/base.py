"""What the losses share: weights, means, precision; and classification losses read from maps as they lie."""

from __future__ import annotations

import torch
from torch import Tensor, nn

REDUCTIONS = ("none", "mean", "sum")
_EPS = torch.finfo(torch.float32).eps


def in_float32(tensor: Tensor | None) -> Tensor | None:
    """Return half-precision tensors in float32, others (float64, integers, bool) as they are."""
    return tensor.float() if tensor is not None and tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def check_reduction(reduction: str, name: str = "reduction") -> None:
    """Raise a ValueError for anything but ``'none'``, ``'mean'`` and ``'sum'``."""
    if reduction not in REDUCTIONS:
        raise ValueError(f"{name} must be one of {REDUCTIONS}, but got {reduction!r}")


def normalizer(reduction: str, avg_factor: float | Tensor | None, numel: int) -> float | Tensor:
    """Return what a sum over ``numel`` losses is divided by.

    Raises:
        ValueError: ``avg_factor`` with ``reduction='sum'``.
    """
    if avg_factor is None:
        return max(numel, 1) if reduction == "mean" else 1.0
    if reduction == "sum":
        raise ValueError("avg_factor says what a mean divides by, so it needs reduction='mean', but got 'sum'")
    return avg_factor + _EPS  # finite where no prior counts


def weighted_reduction(
    loss: Tensor,
    weight: Tensor | None = None,
    reduction: str = "mean",
    avg_factor: float | Tensor | None = None,
) -> Tensor:
    """Weigh losses and reduce them.

    Args:
        loss: (N, ...).
        weight: of the loss's shape; or (N,), of each row; or, for a loss (N,), (N, 4), whose mean is taken.
        reduction: ``'none'``, ``'mean'`` or ``'sum'``. Over no elements at all the mean is 0, connected to the graph.
        avg_factor: what ``'mean'`` divides by, in place of the number of elements.

    Raises:
        ValueError: ``avg_factor`` with ``'sum'``, or a weight of another shape.
    """
    if weight is not None:
        loss = loss * _fitted(in_float32(weight), loss)
    if reduction == "none":
        return loss
    return loss.sum() / normalizer(reduction, avg_factor, loss.numel())


def _fitted(weight: Tensor, loss: Tensor) -> Tensor:
    if weight.numel() == loss.numel():
        return weight.reshape(loss.shape)
    rows = weight.squeeze(-1) if weight.ndim == loss.ndim else weight
    if rows.shape == loss.shape[: rows.ndim]:
        return rows.reshape(rows.shape + (1,) * (loss.ndim - rows.ndim))
    if weight.shape[:-1] == loss.shape:
        return weight.mean(-1)
    raise ValueError(
        f"weight must have the shape of the loss, {tuple(loss.shape)}, or one entry a row, but got "
        f"{tuple(weight.shape)}"
    )


class Loss(nn.Module):
    """Base of the losses: a subclass says what one element costs, in :meth:`per_element`.

    Args:
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.
        loss_weight: factor of the result.
    """

    compares_boxes = False  # whether rows of four numbers may be boxes

    def __init__(self, reduction: str = "mean", loss_weight: float = 1.0) -> None:
        super().__init__()
        check_reduction(reduction)
        self.reduction = reduction
        self.loss_weight = loss_weight

    def per_element(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return the losses (N, ...) without weights; half precision does not come here."""
        raise NotImplementedError

    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
    ) -> Tensor:
        """Return the loss, in float32 (float64 for float64).

        Args:
            pred: (N, ...) predictions.
            target: (N, ...) what they should be.
            weight: (N,) of each row, or of the shape of the loss.
            avg_factor: what ``'mean'`` divides by, in place of the number of elements.
            reduction_override: in place of ``reduction``, for this call.

        Raises:
            ValueError: an unknown reduction, ``avg_factor`` with ``'sum'``, or shapes that do not fit.
        """
        reduction = self._reduction(reduction_override)
        with torch.autocast(pred.device.type, enabled=False):
            loss = self.per_element(in_float32(pred), in_float32(target))
            return self.loss_weight * weighted_reduction(loss, weight, reduction, avg_factor)

    def _reduction(self, override: str | None) -> str:
        if override is None:
            return self.reduction
        check_reduction(override, "reduction_override")
        return override

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}, loss_weight={self.loss_weight}"
