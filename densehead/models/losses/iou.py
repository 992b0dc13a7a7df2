"""The losses of boxes against boxes."""

from __future__ import annotations

from torch import Tensor

from densehead.models.losses import functional
from densehead.models.losses.base import Loss
from densehead.registry import MODELS


class BoxLoss(Loss):
    """Base of the losses of (N, 4) boxes, xyxy: one value a box. A weight (N, 4) counts by its mean.

    Args:
        eps: keeps quotients and logarithms finite.
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.
        loss_weight: factor of the result.
    """

    compares_boxes = True

    def __init__(self, eps: float = 1e-6, reduction: str = "mean", loss_weight: float = 1.0) -> None:
        super().__init__(reduction, loss_weight)
        self.eps = eps

    def forward(self, pred: Tensor, target: Tensor, *args, **kwargs) -> Tensor:
        """Return the loss of boxes (N, 4) against boxes (N, 4); see :meth:`Loss.forward`."""
        if pred.shape != target.shape or pred.ndim != 2 or pred.shape[-1] != 4:
            raise ValueError(
                f"{type(self).__name__} takes boxes of shape (N, 4), but got pred {tuple(pred.shape)} and target "
                f"{tuple(target.shape)}"
            )
        return super().forward(pred, target, *args, **kwargs)


@MODELS.register_module()
class IoULoss(BoxLoss):
    """``-log IoU``, or ``1 - IoU``, or ``1 - IoU^2``: :func:`functional.iou_loss`.

    Args:
        linear: the older name of ``mode='linear'``.
        eps: the least IoU.
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.
        loss_weight: factor of the result.
        mode: ``'log'``, ``'linear'`` or ``'square'``.

    Raises:
        ValueError: an unknown mode.
    """

    def __init__(
        self,
        linear: bool = False,
        eps: float = 1e-6,
        reduction: str = "mean",
        loss_weight: float = 1.0,
        mode: str = "log",
    ) -> None:
        super().__init__(eps, reduction, loss_weight)
        modes = ("log", "linear", "square")
        if mode not in modes:
            raise ValueError(f"mode of IoULoss must be one of {modes}, but got {mode!r}")
        self.mode = "linear" if linear else mode
        self.linear = linear

    def per_element(self, pred: Tensor, target: Tensor) -> Tensor:
        return functional.iou_loss(pred, target, self.mode, self.eps)


@MODELS.register_module()
class GIoULoss(BoxLoss):
    """``1 - GIoU``: :func:`functional.giou_loss`."""

    def per_element(self, pred: Tensor, target: Tensor) -> Tensor:
        return functional.giou_loss(pred, target, self.eps)


@MODELS.register_module()
class DIoULoss(BoxLoss):
    """IoU and distance of the centres: :func:`functional.diou_loss`."""

    def per_element(self, pred: Tensor, target: Tensor) -> Tensor:
        return functional.diou_loss(pred, target, self.eps)


@MODELS.register_module()
class CIoULoss(BoxLoss):
    """IoU, distance of the centres and aspect ratio: :func:`functional.ciou_loss`."""

    def per_element(self, pred: Tensor, target: Tensor) -> Tensor:
        return functional.ciou_loss(pred, target, self.eps)


@MODELS.register_module()
class EIoULoss(BoxLoss):
    """IoU extended to boxes apart: :func:`functional.eiou_loss`.

    Args:
        eps: keeps quotients finite.
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.
        loss_weight: factor of the result.
        smooth_point: below it the loss is quadratic.
    """

    def __init__(
        self,
        eps: float = 1e-6,
        reduction: str = "mean",
        loss_weight: float = 1.0,
        smooth_point: float = 0.1,
    ) -> None:
        super().__init__(eps, reduction, loss_weight)
        self.smooth_point = smooth_point

    def per_element(self, pred: Tensor, target: Tensor) -> Tensor:
        return functional.eiou_loss(pred, target, self.smooth_point, self.eps)


@MODELS.register_module()
class SIoULoss(BoxLoss):
    """IoU, angle, distance and shape: :func:`functional.siou_loss`.

    Args:
        eps: keeps quotients finite.
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.
        loss_weight: factor of the result.
        neg_gamma: take the exponent's sign of the paper.
    """

    def __init__(
        self,
        eps: float = 1e-6,
        reduction: str = "mean",
        loss_weight: float = 1.0,
        neg_gamma: bool = False,
    ) -> None:
        super().__init__(eps, reduction, loss_weight)
        self.neg_gamma = neg_gamma

    def per_element(self, pred: Tensor, target: Tensor) -> Tensor:
        return functional.siou_loss(pred, target, self.eps, self.neg_gamma)


@MODELS.register_module()
class BoundedIoULoss(BoxLoss):
    """Upper bounds of the IoU by x, y, width and height, four values a box: :func:`functional.bounded_iou_loss`.

    Args:
        beta: below it the loss is quadratic.
        eps: keeps quotients finite.
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.
        loss_weight: factor of the result.
    """

    def __init__(
        self,
        beta: float = 0.2,
        eps: float = 1e-3,
        reduction: str = "mean",
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__(eps, reduction, loss_weight)
        self.beta = beta

    def per_element(self, pred: Tensor, target: Tensor) -> Tensor:
        return functional.bounded_iou_loss(pred, target, self.beta, self.eps)
