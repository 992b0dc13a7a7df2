"""The focal loss, and the pass over score maps that it shares with its kin of soft targets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from densehead.models.losses import functional
from densehead.models.losses.base import in_float32, normalizer
from densehead.models.losses.dense import (
    CHUNK,
    ClassificationLoss,
    MapTargets,
    as_levels,
    chunks,
    flat_loss,
    in_memory_order,
    pick,
    takes_quality,
)
from densehead.ops import full_precision, fused_kernels, sigmoid_focal_loss
from densehead.registry import MODELS
from densehead.structures.level_tensor import LevelTensor, Share

SURE = 5.0  # the logit from which on 1 - sigmoid keeps less than six digits in float32


class FocalFamily(ClassificationLoss):
    """A classification loss of sigmoid scores in which a background costs ``w * sigmoid^gamma * softplus``.

    So do focal, quality focal and varifocal loss; they differ in what a positive's own class costs.

    Attributes:
        negative_weight: ``w``.
        focus: ``gamma``.
        plain: compute :meth:`forward_maps` by PyTorch's own differentiation: slower, with a few copies of the maps,
            and differentiable twice.
    """

    plain = False
    activated = False

    @property
    def negative_weight(self) -> float:
        return 1.0

    @property
    def focus(self) -> float:
        raise NotImplementedError

    def positive_term(self, logits: Tensor, quality: Tensor | None) -> Tensor:
        """Return (N,) what the logits (N,) of the positives' own classes cost; their qualities are (N,)."""
        raise NotImplementedError

    def num_losses(self, logits: LevelTensor) -> int:
        """Return over how many losses a mean without ``avg_factor`` goes."""
        return sum(piece.numel() for piece in logits.pieces)

    def forward_maps(
        self,
        logits: Tensor | LevelTensor,
        pos_image: Tensor,
        pos_prior: Tensor,
        pos_label: Tensor,
        *,
        pos_quality: Tensor | None = None,
        weight: Tensor | None = None,
        pos_weight: float | None = None,
        avg_factor: float | Tensor | None = None,
    ) -> Tensor:
        """As the base has it, with value and gradient from one pass over the memory (unless ``plain``)."""
        if takes_quality(self) and pos_quality is None:
            raise ValueError(f"{type(self).__name__}.forward_maps needs pos_quality, the quality of every positive")
        logits = as_levels(logits)
        targets = MapTargets.of(logits, pos_image, pos_prior, pos_label, weight, pos_weight, pos_quality)
        if self.activated or self.reduction == "none":
            return flat_loss(self, logits, targets, avg_factor)
        pieces, shares = logits.pieces, logits.shares(pos_image, pos_prior)
        factor = self.loss_weight / normalizer(self.reduction, avg_factor, self.num_losses(logits))
        factor = torch.as_tensor(factor, dtype=full_precision(pieces[0]).dtype, device=pieces[0].device).detach()
        with torch.autocast(pieces[0].device.type, enabled=False):
            if self.plain:
                return factor * self._plain([in_float32(piece) for piece in pieces], shares, targets)
            return _FusedFocal.apply(shares, targets, factor, self, *pieces)

    def _plain(self, pieces: Sequence[Tensor], shares: Sequence[Share], targets: MapTargets) -> Tensor:
        """Return the sum of the losses: of backgrounds everywhere, corrected at the positives."""
        total = 0.0
        for piece, weight in zip(pieces, targets.weight_like(pieces), strict=True):
            background = self.negative_weight * functional.focal_term(piece, self.focus)
            total = total + (background.sum() if weight is None else (background * weight).sum())
        picked = pick(pieces, shares, targets.label)
        return total + self._as_positives(picked, targets) - self._as_background(picked, targets)

    def _as_positives(self, picked: Tensor, targets: MapTargets) -> Tensor:
        """Return what the positives' own logits (N,) cost, summed."""
        return (self.positive_term(picked, in_float32(targets.quality)) * targets.weight_of_positives()).sum()

    def _as_background(self, picked: Tensor, targets: MapTargets) -> Tensor:
        """Return what they would cost as background, summed."""
        background = self.negative_weight * functional.focal_term(picked, self.focus)
        return (background * targets.weight_of_positives()).sum()


@MODELS.register_module()
class FocalLoss(FocalFamily):
    """Focal loss (Lin et al., ICCV 2017) of sigmoid scores.

    Args:
        use_sigmoid: must be True.
        gamma: focusing exponent.
        alpha: weight of the positives; negatives weigh ``1 - alpha``.
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.
        loss_weight: factor of the result.
        activated: whether predictions have been through the sigmoid.

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

    def per_element(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return (N, C) losses of ``target`` (N,), class indices with ``C`` for background, or (N, C) in [0, 1]."""
        if pred.ndim == target.ndim:
            return functional.focal_loss(pred, target.to(pred.dtype), self.gamma, self.alpha, self.activated)
        if not self.activated:
            return sigmoid_focal_loss(pred, target, self.gamma, self.alpha)
        one_hot = F.one_hot(target, pred.shape[1] + 1)[:, : pred.shape[1]].to(pred.dtype)
        return functional.focal_loss(pred, one_hot, self.gamma, self.alpha, activated=True)

    @property
    def negative_weight(self) -> float:
        return 1 - self.alpha

    @property
    def focus(self) -> float:
        return self.gamma

    def positive_term(self, logits: Tensor, quality: Tensor | None) -> Tensor:
        return self.alpha * functional.focal_term(-logits, self.gamma)


class _FusedFocal(torch.autograd.Function):
    """Value and gradient in one pass over the logits, in the order of their memory and a cache's worth at a time.

    Kept for the backward pass is the gradient alone. It stays in float32 where the logits are of half precision: a
    loss scale, with which it is yet to be multiplied, is there because it might not fit into float16.
    """

    @staticmethod
    def forward(
        ctx, shares: list[Share], targets: MapTargets, factor: Tensor, loss: FocalFamily, *pieces: Tensor
    ) -> Tensor:
        needs_grad = any(ctx.needs_input_grad)
        grads = [torch.empty_like(piece, dtype=factor.dtype) if needs_grad else None for piece in pieces]
        balance = factor * loss.negative_weight
        weights = targets.weight_like(pieces)
        sums = [
            total
            for piece, weight, grad in zip(pieces, weights, grads, strict=True)
            for total in _backgrounds(piece, weight, grad, balance, loss.focus)
        ]
        picked = pick(pieces, shares, targets.label).to(factor.dtype)
        with torch.enable_grad():  # the positives are few
            positive = loss._as_positives(picked.requires_grad_(needs_grad), targets)
        if needs_grad:
            slope = factor * torch.autograd.grad(positive, picked)[0]
            for grad, share in zip(grads, shares, strict=True):
                grad[share.image, share.base, share.of(targets.label), share.place] = share.of(slope)
            ctx.save_for_backward(*grads)
        ctx.dtype, ctx.name = pieces[0].dtype, type(loss).__name__
        correction = positive.detach() - loss._as_background(picked.detach(), targets)
        return torch.stack(sums).sum() + factor * correction

    @staticmethod
    def backward(ctx, grad_output: Tensor):
        if torch.is_grad_enabled():
            raise RuntimeError(
                f"{ctx.name}.forward_maps cannot be differentiated twice (create_graph=True): set plain=True on the "
                "loss module, e.g. head.loss_cls.plain = True, for the slower form that can"
            )
        grads = ctx.saved_tensors
        if grad_output.device.type != "cpu" or grad_output.item() != 1:  # on the host the look spares a pass
            grads = [grad * grad_output for grad in grads]
        return None, None, None, None, *(grad.to(ctx.dtype) for grad in grads)


def _backgrounds(
    logits: Tensor, weight: Tensor | None, grad: Tensor | None, balance: Tensor, gamma: float
) -> Iterator[Tensor]:
    """Yield sums of ``balance * weight * sigmoid^gamma * softplus``, piece by piece; write its gradient to ``grad``."""
    kernels = fused_kernels(logits)
    if kernels is not None:
        yield kernels.focal_background(logits, weight, grad, balance, gamma)
        return
    views = in_memory_order(logits, weight, grad)
    on_host = logits.device.type == "cpu"
    scale = balance.item() if on_host else balance
    for some in chunks(CHUNK["cpu" if on_host else "cuda"], *views):
        yield _background(*some, scale, gamma)


def _background(
    logits: Tensor, weight: Tensor | None, grad: Tensor | None, balance: float | Tensor, gamma: float
) -> Tensor:
    """Return ``balance * weight * sigmoid^gamma * softplus``, summed; write its gradient to ``grad``."""
    logits = full_precision(logits)
    score = logits.sigmoid()
    zero = score.new_zeros(())
    scale = torch.empty_like(score) if grad is None else grad
    if isinstance(balance, float) and gamma == 2:
        torch.addcmul(zero, score, score, value=balance, out=scale)  # a number is multiplied with in passing
    else:
        torch.pow(score, gamma, out=scale).mul_(balance)
    if weight is not None:
        scale.mul_(weight)
    loss = _minus_softplus(logits, score)
    factor = gamma or 1  # with which the gradient wants the loss multiplied
    torch.addcmul(zero, loss, scale, value=-factor, out=loss)
    total = loss.sum() / factor  # pairwise: a dot product would lose four digits over a fresh head's equal logits
    if grad is not None:  # scale * score + gamma * (1 - score) * loss
        torch.lerp(loss if gamma else loss.zero_(), scale, score, out=grad)
    return total


def _minus_softplus(logits: Tensor, score: Tensor) -> Tensor:
    """Return ``log(1 - score)`` in new memory: on the host, where no score is so high that it cancels, half as dear."""
    if logits.device.type == "cpu" and logits.numel() and logits.amax() < SURE:
        return torch.neg(score).log1p_()
    return F.softplus(logits).neg_()
