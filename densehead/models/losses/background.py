"""What score maps cost as background, and the gradient of that, in one pass over their memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from densehead.models.losses.dense import by_stride, chunk_size, chunks, in_memory_order
from densehead.ops import compiled_focal_background, full_precision, fused_kernels

SURE = 5.0  # the logit from which on 1 - sigmoid keeps less than six digits in float32


@dataclass(frozen=True)
class Background:
    """``balance * sigmoid^gamma * softplus`` of maps.

    Attributes:
        grads: of each piece (B, A, C, S) the gradient of :attr:`total`, lying as the piece does; none if not asked for.
        total: a scalar.
    """

    grads: list[Tensor | None]
    total: Tensor

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        pieces: Sequence[Tensor],
        weights: Sequence[Tensor | None],
        balance: Tensor,
        gamma: float,
        *,
        needs_grad: bool = True,
    ) -> Background:
        """Take pieces (B, A, C, S) with weights that broadcast to them."""
        grads = [torch.empty_like(piece, dtype=balance.dtype) if needs_grad else None for piece in pieces]
        parts, kernels = list(zip(pieces, weights, grads, strict=True)), fused_kernels(pieces[0])
        if kernels is not None:
            return cls(grads, torch.stack([kernels.focal_background(*part, balance, gamma) for part in parts]).sum())
        views = [in_memory_order(*part) for part in parts]
        total = compiled_focal_background(views, balance, gamma)
        if total is None:
            total = torch.stack([total for part in views for total in _sums(*part, balance, gamma)]).sum()
        return cls(grads, total)


@dataclass(frozen=True)
class PriorBackground:
    """The same of every prior by itself, before anything is known of weights and normalisers.

    Attributes:
        grads: see above, for a ``balance`` of 1.
        costs: of each piece (B, A, 1, S), all classes of a prior in sum.
    """

    grads: list[Tensor]
    costs: list[Tensor]

    @classmethod
    @torch.no_grad()
    def of(cls, pieces: Sequence[Tensor], gamma: float) -> PriorBackground:
        """Take pieces (B, A, C, S)."""
        grads = [torch.empty_like(piece, dtype=full_precision(piece).dtype) for piece in pieces]
        costs = [torch.zeros_like(grad[:, :, :1]) for grad in grads]
        for piece, grad, cost in zip(pieces, grads, costs, strict=True):
            order = by_stride(piece)
            axis = order.index(2)
            views = [view.permute(order) for view in (piece, grad, cost.expand_as(piece))]
            for logits, slope, summed in chunks(chunk_size(piece), *views):
                _background(logits, None, slope, 1.0, gamma, (summed, axis))
        return cls(grads, costs)

    @torch.no_grad()
    def weighted(self, weights: Sequence[Tensor | None], balance: Tensor) -> Background:
        """Return the sum with weights, which uses up what is here."""
        totals = []
        for grad, cost, weight in zip(self.grads, self.costs, weights, strict=True):
            factor = balance if weight is None else balance * weight[:, :, :1]
            grad.mul_(factor)
            totals.append((cost * factor).sum())
        return Background(self.grads, torch.stack(totals).sum())


def _sums(
    logits: Tensor, weight: Tensor | None, grad: Tensor | None, balance: Tensor, gamma: float
) -> Iterator[Tensor]:
    """Yield sums of ``balance * weight * sigmoid^gamma * softplus``, a cache's worth at a time; write its gradient to
    ``grad``. All three are in the order of memory.
    """
    scale = balance.item() if logits.device.type == "cpu" else balance
    for some in chunks(chunk_size(logits), logits, weight, grad):
        yield _background(*some, scale, gamma)


def _background(
    logits: Tensor,
    weight: Tensor | None,
    grad: Tensor | None,
    balance: float | Tensor,
    gamma: float,
    summed: tuple[Tensor, int] | None = None,
) -> Tensor | None:
    """Return ``balance * weight * sigmoid^gamma * softplus``, summed; write its gradient to ``grad``.

    With ``summed``, a tensor that is repeated along an axis, add to that the sums over the axis, and return None.
    """
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
    if summed is not None:
        cost, axis = summed
        cost.select(axis, 0).add_(loss.sum(axis), alpha=1 / factor)
    total = None if summed is not None else loss.sum() / factor
    if grad is not None:  # scale * score + gamma * (1 - score) * loss
        torch.lerp(loss if gamma else loss.zero_(), scale, score, out=grad)
    return total


def _minus_softplus(logits: Tensor, score: Tensor) -> Tensor:
    """Return ``log(1 - score)`` in new memory: on the host, where no score is so high that it cancels, half as dear."""
    if logits.device.type == "cpu" and logits.numel() and logits.amax() < SURE:
        return torch.neg(score).log1p_()
    return F.softplus(logits).neg_()
