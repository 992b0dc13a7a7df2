"""The loss of AutoAssign's score maps as if all were background, and the few scores that are more than that."""

from __future__ import annotations

import torch
from torch import Tensor

from densehead.models.losses.dense import CHUNK, chunks
from densehead.ops import full_precision

LEAST = 1e-38  # of what a logarithm is taken: 1 / LEAST is still finite


def background_and_logits(
    cls_logits: Tensor, objectness: Tensor, factor: Tensor, image: Tensor, label: Tensor, prior: Tensor
) -> tuple[Tensor, Tensor]:
    """Return what all scores cost as background, times ``factor``, and the class logits (N,) at some of them.

    Both are one function of the maps because their gradient then is one map: that of the logits is added to the
    places that they were read from.

    Args:
        cls_logits: (B, 1, C, P) in whatever memory order, before the sigmoid.
        objectness: (B, 1, 1, P) before the sigmoid.
        factor: a scalar without gradient.
        image, label, prior: (N,) where to read.
    """
    factor = factor.to(full_precision(cls_logits).dtype)
    return _Background.apply(cls_logits, objectness, factor, (image, torch.zeros_like(image), label, prior))


class _Background(torch.autograd.Function):
    """Value and gradient in one pass over the logits, in the order of their memory and a cache's worth at a time.

    With ``q = sigmoid(c) * sigmoid(o)`` the loss is ``-q^2 * log(1 - q)``, where
    ``1 - q = sigmoid(-o) + sigmoid(-c) * sigmoid(o)`` does not cancel, however sure both are.
    """

    @staticmethod
    def forward(ctx, cls_logits: Tensor, objectness: Tensor, factor: Tensor, index: tuple[Tensor, ...]):
        is_object = full_precision(objectness).sigmoid()
        is_nothing = (-full_precision(objectness)).sigmoid().clamp(min=LEAST)
        grad = torch.empty_like(cls_logits, dtype=factor.dtype)
        grad_objectness = torch.zeros_like(is_object)
        order = sorted(range(4), key=lambda axis: cls_logits.stride(axis), reverse=True)
        views = (cls_logits, grad, is_object, is_nothing, grad_objectness)
        views = [view.expand_as(cls_logits).permute(order) for view in views]
        classes = order.index(2)
        size = CHUNK.get(cls_logits.device.type, CHUNK["cuda"])
        total = torch.stack([_background(*some, classes) for some in chunks(size, *views)]).sum()
        ctx.save_for_backward(grad, grad_objectness.mul_(is_nothing), factor, *index)
        ctx.dtypes = cls_logits.dtype, objectness.dtype
        return factor * total, cls_logits[index].to(factor.dtype)

    @staticmethod
    def backward(ctx, grad_total: Tensor, grad_logits: Tensor):
        grad, grad_objectness, factor, *index = ctx.saved_tensors
        scale = factor * grad_total
        grad = (grad * scale).index_put_(tuple(index), grad_logits, accumulate=True)
        return grad.to(ctx.dtypes[0]), (grad_objectness * scale).to(ctx.dtypes[1]), None, None


def _background(
    logits: Tensor, grad: Tensor, is_object: Tensor, is_nothing: Tensor, grad_objectness: Tensor, classes: int
) -> Tensor:
    """Return the sum of the losses of a piece of the maps; write the gradient of the logits and, without its factor
    ``is_nothing``, add that of the objectness, which is repeated along the axis ``classes``.
    """
    is_other = torch.neg(logits.to(grad.dtype), out=grad).sigmoid_()
    rest = is_other * is_object
    joint = is_object - rest
    rest.add_(is_nothing)  # 1 - joint
    slope = joint / rest
    log_rest = rest.log_()
    joint.square_()
    slope.sub_(log_rest, alpha=2).mul_(joint)  # the derivative by joint, times joint
    grad_objectness.select(classes, 0).add_(slope.sum(classes))
    grad.mul_(slope)
    return -log_rest.mul_(joint).sum()
