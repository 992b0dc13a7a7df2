"""Distributions over bins: their mean and the loss that sharpens them, from one softmax."""

from __future__ import annotations

import torch
from torch import Tensor

from densehead.compat import is_compiling


def distribution_focal_loss(logits: Tensor, target: Tensor) -> Tensor:
    """Return the distribution focal loss (Li et al., NeurIPS 2020, eq. 6).

    Args:
        logits: (N, R + 1) over the bins 0 to R.
        target: (N,) distances in [0, R], in units of a bin; without a gradient.

    Returns:
        (N,): the cross entropies of the two bins around the target, by nearness.
    """
    return mean_and_focal_loss(logits, target)[1]


def mean_and_focal_loss(logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return (N,) the expected bins of distributions, and (N,) their :func:`distribution_focal_loss`.

    Both come of one softmax, and so do their gradients.
    """
    if is_compiling():  # which fuses it by itself
        return _mean_and_focal_loss(logits, target)[:2]
    return _MeanAndFocalLoss.apply(logits, target)


def _mean_and_focal_loss(logits: Tensor, target: Tensor) -> tuple[Tensor, ...]:
    """Return what :func:`mean_and_focal_loss` does, the probabilities, the bins on both sides and their weights."""
    log_share = logits.log_softmax(-1)
    left = target.long().clamp(max=logits.shape[-1] - 2)
    sides, nearness = torch.stack((left, left + 1), -1), target - left
    nearness = torch.stack((1 - nearness, nearness), -1)
    loss = -(log_share.gather(-1, sides) * nearness).sum(-1)
    share = log_share.exp() if torch.is_grad_enabled() else log_share.exp_()
    return share.mv(_bins(share)), loss, share, sides, nearness


def _bins(logits: Tensor) -> Tensor:
    return torch.arange(logits.shape[-1], dtype=logits.dtype, device=logits.device)


class _MeanAndFocalLoss(torch.autograd.Function):
    @staticmethod
    def forward(ctx, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        mean, loss, *parts = _mean_and_focal_loss(logits, target)
        ctx.save_for_backward(logits, target, mean, *parts)
        return mean, loss

    @staticmethod
    def backward(ctx, grad_mean: Tensor, grad_loss: Tensor) -> tuple[Tensor, None]:
        logits, target, mean, share, sides, nearness = ctx.saved_tensors
        if torch.is_grad_enabled():  # to be differentiated once more
            outputs = _mean_and_focal_loss(logits, target)[:2]
            return *torch.autograd.grad(outputs, logits, (grad_mean, grad_loss), create_graph=True), None
        grad = grad_mean[:, None] * _bins(share)
        grad.add_((grad_loss - grad_mean * mean)[:, None]).mul_(share)
        return grad.scatter_add_(-1, sides, nearness * -grad_loss[:, None]), None
