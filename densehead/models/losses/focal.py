"""The focal loss."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from densehead.models.losses import functional
from densehead.models.losses.base import in_float32, normalizer
from densehead.models.losses.dense import CHUNK, ClassificationLoss, MapTargets, chunks, flat_loss, in_memory_order
from densehead.ops import full_precision, sigmoid_focal_loss
from densehead.registry import MODELS


@MODELS.register_module()
class FocalLoss(ClassificationLoss):
    """Focal loss (Lin et al., ICCV 2017) of sigmoid scores.

    Args:
        use_sigmoid: must be True.
        gamma: focusing exponent.
        alpha: weight of the positives; negatives weigh ``1 - alpha``.
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.
        loss_weight: factor of the result.
        activated: whether predictions have been through the sigmoid.

    Attributes:
        plain: compute :meth:`forward_maps` by PyTorch's own differentiation: slower, with a few copies of the maps,
            and differentiable twice.

    Raises:
        ValueError: ``use_sigmoid=False``, or ``alpha`` outside [0, 1].
    """

    def __init__(
        self,
        use_sigmoid: bool = True,
        gamma: float = 2.0,
        alpha: float = 0.25,
        reduction: str = "mean",
        loss_weight: float = 1.0,
        activated: bool = False,
    ) -> None:
        super().__init__(reduction, loss_weight)
        if not use_sigmoid:
            raise ValueError("FocalLoss has use_sigmoid=True only; softmax scores: type='CrossEntropyLoss'")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha of FocalLoss must lie in [0, 1], but got {alpha}")
        self.use_sigmoid = use_sigmoid
        self.gamma = gamma
        self.alpha = alpha
        self.activated = activated
        self.plain = False

    def per_element(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return (N, C) losses of ``target`` (N,), class indices with ``C`` for background, or (N, C) in [0, 1]."""
        if pred.ndim == target.ndim:
            return functional.focal_loss(pred, target.to(pred.dtype), self.gamma, self.alpha, self.activated)
        if not self.activated:
            return sigmoid_focal_loss(pred, target, self.gamma, self.alpha)
        one_hot = F.one_hot(target, pred.shape[1] + 1)[:, : pred.shape[1]].to(pred.dtype)
        return functional.focal_loss(pred, one_hot, self.gamma, self.alpha, activated=True)

    def forward_maps(
        self,
        logits: Tensor,
        pos_image: Tensor,
        pos_prior: Tensor,
        pos_label: Tensor,
        *,
        weight: Tensor | None = None,
        pos_weight: float | None = None,
        avg_factor: float | Tensor | None = None,
    ) -> Tensor:
        """As the base has it, with value and gradient from one pass over the memory (unless ``plain``)."""
        targets = MapTargets.of(logits.shape, pos_image, pos_prior, pos_label, weight, pos_weight)
        if self.activated or self.reduction == "none":
            return flat_loss(self, logits, targets, avg_factor)
        factor = self.loss_weight / normalizer(self.reduction, avg_factor, logits.numel())
        factor = torch.as_tensor(factor, dtype=full_precision(logits).dtype, device=logits.device).detach()
        with torch.autocast(logits.device.type, enabled=False):
            if self.plain:
                return factor * _plain(in_float32(logits), targets, self.gamma, self.alpha)
            return _FusedFocal.apply(logits, targets, factor, self.gamma, self.alpha)


def _plain(logits: Tensor, targets: MapTargets, gamma: float, alpha: float) -> Tensor:
    """Return the sum of the losses: of backgrounds everywhere, corrected at the positives."""
    background = (1 - alpha) * functional.focal_term(logits, gamma)
    weight = targets.weight_like(logits)
    total = background.sum() if weight is None else (background * weight).sum()
    return total + _correction(logits[targets.places(logits.shape[1])], targets, gamma, alpha)


def _correction(logits: Tensor, targets: MapTargets, gamma: float, alpha: float) -> Tensor:
    """Return what the positives' own logits (N,) cost more than as background, summed."""
    more = alpha * functional.focal_term(-logits, gamma) - (1 - alpha) * functional.focal_term(logits, gamma)
    return (more * targets.weight_of_positives()).sum()


class _FusedFocal(torch.autograd.Function):
    """Value and gradient in one pass over the logits, in the order of their memory and a cache's worth at a time.

    Kept for the backward pass is the gradient alone. It stays in float32 where the logits are of half precision: a
    loss scale, with which it is yet to be multiplied, is there because it might not fit into float16.
    """

    @staticmethod
    def forward(ctx, logits: Tensor, targets: MapTargets, factor: Tensor, gamma: float, alpha: float) -> Tensor:
        grad = torch.empty_like(logits, dtype=factor.dtype) if ctx.needs_input_grad[0] else None
        views = in_memory_order(logits, targets.weight_like(logits), grad)
        balance = factor * (1 - alpha)
        size = CHUNK.get(logits.device.type, CHUNK["cuda"])
        sums = [_background(*some, balance, gamma) for some in chunks(size, *views)]
        places = targets.places(logits.shape[1])
        picked = logits[places].to(factor.dtype)
        if grad is not None:
            slope = -alpha * functional.focal_gradient(-picked, gamma) * targets.weight_of_positives()
            grad[places] = factor * slope
            ctx.save_for_backward(grad)
        ctx.dtype = logits.dtype
        correction = factor * _correction(picked, targets, gamma, alpha)
        return torch.stack(sums).sum() + correction

    @staticmethod
    def backward(ctx, grad_output: Tensor):
        if torch.is_grad_enabled():
            raise RuntimeError(
                "FocalLoss.forward_maps cannot be differentiated twice (create_graph=True): set plain=True on the "
                "loss module, e.g. head.loss_cls.plain = True, for the slower form that can"
            )
        (grad,) = ctx.saved_tensors
        if grad_output.device.type != "cpu" or grad_output.item() != 1:  # on the host the look spares a pass
            grad = grad * grad_output
        return grad.to(ctx.dtype), None, None, None, None


def _background(logits: Tensor, weight: Tensor | None, grad: Tensor | None, balance: Tensor, gamma: float) -> Tensor:
    """Return ``balance * weight * sigmoid^gamma * softplus``, summed; write its gradient to ``grad``."""
    logits = logits.to(balance.dtype)
    score = logits.sigmoid()
    scale = score.pow(gamma).mul_(balance)
    if weight is not None:
        scale.mul_(weight)
    loss = F.softplus(logits).mul_(scale)
    total = loss.sum()  # pairwise: a dot product would lose four digits over the equal logits of a fresh head
    if grad is not None:
        torch.mul(score, scale, out=grad)
        grad.add_(loss.addcmul_(score, loss, value=-1), alpha=gamma)  # gamma * (1 - score) * loss
    return total
