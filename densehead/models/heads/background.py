"""The loss of AutoAssign's score maps as if all were background, and the few scores that are more than that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import ModuleType

import torch
from torch import Tensor

from densehead.models.losses.background import SURE
from densehead.models.losses.dense import by_stride, chunk_size, chunks, pick
from densehead.ops import compiled_joint_background, full_precision, fused_kernels
from densehead.structures.level_tensor import LevelTensor, Share

LEAST = 1e-32  # of what a logarithm is taken: the sum over a million classes of 1 / LEAST is still finite


def background_and_logits(
    cls_logits: LevelTensor, objectness: LevelTensor, factor: Tensor, shares: list[Share], labels: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what all scores cost as background, times ``factor``, and the class logits (N,) at some of them.

    Both are one function of the maps because their gradient then is one map: that of the logits is added to the
    places that they were read from.

    Args:
        cls_logits: C numbers a prior, one prior at a place, before the sigmoid.
        objectness: one number a prior, before the sigmoid.
        factor: a scalar without gradient.
        shares: where to read: N priors of images.
        labels: (N,) and of which classes.
    """
    factor = factor.to(full_precision(cls_logits.pieces[0]).dtype)
    return _Background.apply(factor, shares, labels, *cls_logits.pieces, *objectness.pieces)


class _Background(torch.autograd.Function):
    """Value and gradient in one pass over the logits, in the order of their memory and a cache's worth at a time.

    With ``q = sigmoid(c) * sigmoid(o)`` the loss is ``-q^2 * log(1 - q)``.
    """

    @staticmethod
    def forward(ctx, factor: Tensor, shares: list[Share], labels: Tensor, *pieces: Tensor):
        half = len(pieces) // 2
        total, grads, grads_objectness = _dense_pass(pieces[:half], pieces[half:], factor)
        ctx.save_for_backward(*grads, *grads_objectness)
        ctx.shares, ctx.labels, ctx.added = shares, labels, None
        ctx.dtypes = [piece.dtype for piece in pieces]
        return total, pick(pieces[:half], shares, labels).to(factor.dtype)

    @staticmethod
    def backward(ctx, grad_total: Tensor, grad_logits: Tensor):
        half = len(ctx.shares)
        grads, grads_objectness = ctx.saved_tensors[:half], ctx.saved_tensors[half:]
        if ctx.added is not None:  # what an earlier call has added to what was kept is taken back
            grads = [grad.clone() for grad in grads]
            _add_at(grads, ctx.shares, ctx.labels, -ctx.added)
        if grad_total.device.type != "cpu" or grad_total.item() != 1:  # on the host the look spares a pass
            grads, grads_objectness = ([one * grad_total for one in some] for some in (grads, grads_objectness))
        elif ctx.added is None:  # past the counter of versions: this class knows what it does to what it kept
            grads, ctx.added = [grad.data for grad in grads], grad_logits
        _add_at(grads, ctx.shares, ctx.labels, grad_logits)
        found = (grad.to(dtype) for grad, dtype in zip((*grads, *grads_objectness), ctx.dtypes, strict=True))
        return None, None, None, *found


def _add_at(grads: Sequence[Tensor], shares: list[Share], labels: Tensor, values: Tensor) -> None:
    for grad, share in zip(grads, shares, strict=True):
        place = share.image, share.base, share.of(labels), share.place
        grad.index_put_(place, share.of(values), accumulate=True)


def _dense_pass(
    logits: Sequence[Tensor], objectness: Sequence[Tensor], factor: Tensor
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Return the sum of the losses and the gradients of pieces of logits (B, 1, C, S) and objectness (B, 1, 1, S)."""
    grads = [torch.empty_like(piece, dtype=factor.dtype) for piece in logits]
    kernels = fused_kernels(logits[0])
    if kernels is not None:
        return _by_kernels(kernels, logits, objectness, grads, factor)
    are_objects = [full_precision(piece).sigmoid() for piece in objectness]
    are_nothing = [(-full_precision(piece)).sigmoid().clamp(min=LEAST) for piece in objectness]
    grads_objectness = [torch.zeros_like(piece) for piece in are_objects]
    orders = [by_stride(piece) for piece in logits]
    parts = zip(logits, grads, are_objects, are_nothing, grads_objectness, strict=True)
    pieces = [[one.permute(order) for one in part] for part, order in zip(parts, orders, strict=True)]
    axes = [order.index(2) for order in orders]
    total = compiled_joint_background(pieces, axes, factor)
    if total is None:
        scale = factor.item() if factor.device.type == "cpu" else factor
        total = torch.stack([part for both in zip(pieces, axes, strict=True) for part in _sums(*both, scale)]).sum()
    for grad, is_nothing in zip(grads_objectness, are_nothing, strict=True):
        grad.mul_(is_nothing)
    return total, grads, grads_objectness


def _by_kernels(
    kernels: ModuleType,
    logits: Sequence[Tensor],
    objectness: Sequence[Tensor],
    grads: list[Tensor],
    factor: Tensor,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    totals, grads_objectness = [], []
    for piece, other, grad in zip(logits, objectness, grads, strict=True):
        total, by_objectness = kernels.joint_background(piece[:, 0], other[:, 0, 0], grad[:, 0], LEAST)
        grad.mul_(factor)
        totals.append(total)
        grads_objectness.append((by_objectness * factor)[:, None, None])
    return torch.stack(totals).sum() * factor, grads, grads_objectness


def _sums(piece: list[Tensor], classes: int, factor: float | Tensor) -> Iterator[Tensor]:
    """Yield sums of the losses of a piece, a cache's worth at a time; see :func:`_background`."""
    views = [view.expand_as(piece[0]) for view in piece]
    for some in chunks(chunk_size(piece[0]), *views):
        yield _background(*some, classes, factor)


def _background(
    logits: Tensor,
    grad: Tensor,
    is_object: Tensor,
    is_nothing: Tensor,
    grad_objectness: Tensor,
    classes: int,
    factor: float | Tensor,
) -> Tensor:
    """Return the sum of the losses of a piece of the maps; write the gradient of the logits and, without its factor
    ``is_nothing``, add that of the objectness, which is repeated along the axis ``classes``.
    """
    is_class = full_precision(logits).sigmoid()
    joint = is_class * is_object
    is_other = None
    if joint.device.type == "cpu" and joint.numel() and logits.amax() < SURE:
        log_rest, rest = torch.neg(joint).log1p_(), 1 - joint
    else:  # in which nothing cancels, however sure both are
        is_other = (-full_precision(logits)).sigmoid()
        rest = torch.addcmul(is_nothing, is_other, is_object)
        log_rest = rest.log()
    odds = torch.div(joint, rest, out=rest)
    if isinstance(factor, float):
        square = torch.addcmul(joint.new_zeros(()), joint, joint, value=factor)
    else:
        square = joint.square().mul_(factor)
    doubled = torch.addcmul(joint.new_zeros(()), square, log_rest, value=-2, out=log_rest)
    total = doubled.sum() / 2
    slope = torch.addcmul(doubled, square, odds, out=doubled)  # the derivative by joint, times joint
    grad_objectness.select(classes, 0).add_(slope.sum(classes))
    if is_other is None:
        torch.addcmul(slope, is_class, slope, value=-1, out=grad)
    else:
        torch.mul(slope, is_other, out=grad)
    return total
