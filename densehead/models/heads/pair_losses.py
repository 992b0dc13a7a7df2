"""What AutoAssign's pairs of a ground truth and a prior inside it cost, and the gradient of that.

Both are computed in one go, the pairs of some truths at a time: a dozen numbers of every pair of a batch at once would
be read from memory, and written there, more slowly than they are computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from densehead.models.assigners.candidates import LOW_BITS, pack
from densehead.models.heads.background import LEAST
from densehead.models.heads.center_prior import EPS
from densehead.models.heads.inside_pairs import Rectangles
from densehead.models.heads.pairs import Pairs, cut, put
from densehead.models.losses import GIoULoss
from densehead.structures import Targets

CONFIDENCE = 3.0  # how much more a confident place counts: the inverse of the paper's temperature
MEANT = 0.5  # share of a ground truth's highest weight from which on a prior is said to be its positive


class SparedLoss(torch.autograd.Function):
    """What the scores of pairs cost less than as background, because a share of them is spared.

    A joint score ``q`` of which a share is spared costs ``-r^2 * log(1 - r)`` with ``r = q * (1 - share)``. The share
    grows with the prior's IoU, from about 0 for the worst to 1 for the best prior of a ground truth.
    """

    @staticmethod
    def forward(ctx, rectangles: Rectangles, value: Tensor, are_last: Tensor, logits: Tensor, objectness: Tensor):
        """Return the sum.

        Args:
            rectangles: where the ``N`` pairs are.
            value: (B * P,) of every prior, what grows with the IoU of its box; without gradient.
            are_last: (N,) whether a pair counts.
            logits: (N,) of the truth's class at the prior.
            objectness: (B * P,) before the sigmoid.
        """
        total, by_logits, by_objectness = logits.new_zeros(()), torch.zeros_like(logits), torch.zeros_like(objectness)
        is_object, is_nothing = objectness.sigmoid(), (-objectness).sigmoid()
        for pairs in rectangles.chunks():
            spared = _spared(pairs, pairs.of_place(value))
            score = cut(logits, pairs.runs), pairs.of_place(is_object), pairs.of_place(is_nothing)
            loss, grad_logits, grad_objectness = _spared_loss(*score, spared, cut(are_last, pairs.runs))
            total += loss
            put(by_logits, pairs.runs, grad_logits)
            by_objectness.scatter_add_(0, pairs.place, grad_objectness)
        ctx.save_for_backward(by_logits, by_objectness.mul_(is_nothing))
        return total

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        return None, None, None, *(kept * grad for kept in ctx.saved_tensors)


def _spared(pairs: Pairs, value: Tensor) -> Tensor:
    """(n,) shares of pairs, all those of some truths."""
    low, high = pairs.amin(value), pairs.amax(value)
    return (value - pairs.of_truth(low - EPS)) / pairs.of_truth(high - low + EPS)


def _spared_loss(logits: Tensor, is_object: Tensor, is_nothing: Tensor, spared: Tensor, are_last: Tensor):
    """Return the loss of pairs in sum, its gradient (n,) by logits, and that by objectness less a factor
    ``is_nothing``.
    """
    joint, is_other = logits.sigmoid().mul_(is_object), (-logits).sigmoid()
    rest = torch.addcmul(is_nothing, is_other, is_object)
    loss, slope = _as_background(joint, rest)
    kept = 1 - spared
    less, flatter = _as_background(joint * kept, torch.addcmul(rest, joint, spared))
    by_joint = flatter.mul_(kept).sub_(slope).mul_(joint).mul_(are_last)
    return less.sub_(loss).mul_(are_last).sum(), is_other.mul_(by_joint), by_joint


def _as_background(score: Tensor, rest: Tensor) -> tuple[Tensor, Tensor]:
    """Return ``-r^2 * log(1 - r)`` of scores ``r`` and its derivative; ``rest`` is ``1 - r``."""
    rest = rest.clamp(min=LEAST)
    square, twice = score * score, rest.log().mul_(score).mul_(-2)
    return twice * score / 2, square.div_(rest).add_(twice)


class PositiveLoss(torch.autograd.Function):
    """The negative logarithm of the likelihood of each ground truth with a pair, in sum."""

    @staticmethod
    def forward(ctx, scene: Scene, *inputs: Tensor):
        """Return the sum; of each truth (B * G,) the highest summand of its likelihood, as a logarithm; (B * P,) the
        highest positive weight of every prior; and (B * P,) that of those that are said to be positive, packed with
        its truth's rank in the image, or -1.

        Args:
            scene: what has no gradient.
            inputs: ``logits`` (N,) of the truth's class at the prior; ``objectness`` (B * P,) before the sigmoid;
                ``boxes`` (4, B * P) sides in pixels; and what :meth:`CenterPrior.forward` returns.
        """
        logits, objectness, boxes, log_rows, log_columns = inputs
        grads = [torch.zeros_like(one) for one in inputs]
        total, weight = logits.new_zeros(()), torch.zeros_like(objectness)
        best = torch.full_like(objectness, -1, dtype=torch.long)
        summit = logits.new_full((scene.rectangles.num_truths,), torch.inf)
        for pairs in scene.rectangles.chunks():
            some = cut(logits, pairs.runs), pairs.of_place(objectness)
            log_prior = cut(log_rows, pairs.lines).index_select(0, pairs.line)
            log_prior += log_columns.index_select(0, pairs.column)
            box_loss, of_sides = _box_loss(scene, pairs, [pairs.of_place(side) for side in boxes])
            loss, share, largest, by_confidence, by_prior = _likelihood(pairs, *some, box_loss, log_prior)
            total += loss
            summit = summit.minimum(largest)
            by_logits, by_objectness = (by_confidence * (-one).sigmoid() for one in some)
            _spread(pairs, grads, by_logits, by_objectness, of_sides(-by_confidence), by_prior)
            _enter(best, weight, pairs, share, scene.targets)
        ctx.save_for_backward(*grads)
        ctx.mark_non_differentiable(summit, weight, best)
        return total, summit, weight, best

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor, *_):
        return None, *(kept * grad for kept in ctx.saved_tensors)


@dataclass(frozen=True)
class Scene:
    """What the likelihood depends on but has no gradient for.

    Attributes:
        rectangles: where the ``N`` pairs are.
        targets: truth of the batch.
        loss_bbox: any loss of boxes (n, 4) against boxes (n, 4).
    """

    rectangles: Rectangles
    targets: Targets
    loss_bbox: nn.Module


def _likelihood(pairs: Pairs, logits: Tensor, objectness: Tensor, box_loss: Tensor, log_prior: Tensor):
    """Return the loss; the positive weights (n,); of each truth (B * G,) the highest summand of its likelihood, inf
    where it has none; and the gradients (n,) by the logarithms of confidence and centre prior.

    Weights are the paper's confidence weighting times its centre weighting. All is in logarithms, so that confidences
    beyond the least float32 still have a gradient.
    """
    # of a truth of negative extent a loss of boxes may be negative, and e^-loss no probability
    log_confidence = F.logsigmoid(logits) + F.logsigmoid(objectness) - box_loss.clamp(min=0)
    confidence = log_confidence.exp().mul_(CONFIDENCE)
    log_weight = confidence + log_prior
    weight = log_weight.exp()
    total = pairs.sum(weight)
    least = total.clamp(min=EPS)
    share = weight.mul_(pairs.of_truth(1 / least))

    summand = log_weight.add_(log_confidence)
    largest = pairs.amax(summand)
    part = summand.sub_(pairs.of_truth(largest)).exp_()
    sums = pairs.sum(part)
    has_pairs = sums != 0  # the largest alone makes it 1; what is not a number stays that
    loss = -(sums.log() + largest - least.log()).where(has_pairs, 0).sum()

    by_sum = part.mul_(pairs.of_truth(-1 / sums))
    by_prior = torch.addcmul(by_sum, share, pairs.of_truth((total >= EPS).to(share.dtype)))
    by_confidence = torch.addcmul(by_sum, by_prior, confidence)
    return loss, share, largest.where(has_pairs, torch.inf), by_confidence, by_prior


def _box_loss(scene: Scene, pairs: Pairs, sides: list[Tensor]):
    """Return the loss (n,) of every pair's box, in sum where it is one a side, and what turns a gradient by it into
    those by the sides.
    """
    truth = [pairs.of_truth(side) for side in scene.targets.boxes.unbind(-1)]
    if type(scene.loss_bbox) is GIoULoss:
        return _giou_loss(sides, truth, scene.loss_bbox.loss_weight, scene.loss_bbox.eps)
    with torch.enable_grad():
        pred = torch.stack(sides).T.requires_grad_()  # side by side in memory
        loss = scene.loss_bbox(pred, torch.stack(truth).T, reduction_override="none")
        loss = loss if loss.ndim == 1 else loss.sum(-1)
    return loss.detach(), lambda grad: torch.autograd.grad(loss, pred, grad)[0].unbind(-1)


def _giou_loss(pred: list[Tensor], truth: list[Tensor], factor: float, eps: float):
    """What :func:`_box_loss` returns for :class:`GIoULoss`, the loss of AutoAssign's paper, in half the time."""
    (low_x, low_y, high_x, high_y), (true_low_x, true_low_y, true_high_x, true_high_y) = pred, truth
    axes = (low_x, high_x, true_low_x, true_high_x), (low_y, high_y, true_low_y, true_high_y)
    inner = [torch.minimum(high, far).sub_(torch.maximum(low, near)).clamp_(min=0) for low, high, near, far in axes]
    outer = [torch.maximum(high, far).sub_(torch.minimum(low, near)).clamp_(min=0) for low, high, near, far in axes]
    own = [high - low for low, high, _, _ in axes]
    common, hull = inner[0] * inner[1], (outer[0] * outer[1]).clamp_(min=eps)
    union = torch.addcmul(own[0] * own[1] - common, true_high_x - true_low_x, true_high_y - true_low_y).clamp_(min=eps)
    iou, filled = common / union, union / hull
    loss = (2 - iou).sub_(filled).mul_(factor)

    def of_sides(grad: Tensor) -> tuple[Tensor, ...]:
        grad = grad * factor
        by_union = torch.addcdiv(-1 / hull, iou, union).mul_(grad)
        by_common, by_hull = -(grad / union + by_union), filled / hull * grad
        found = []
        for axis, (low, high, near, far) in enumerate(axes):
            by_inner = by_common * inner[1 - axis] * (inner[axis] > 0)
            by_outer, by_own = by_hull * outer[1 - axis], by_union * own[1 - axis]
            found.append(-(by_own + by_inner.where(low > near, by_outer)))
            found.append(by_own + by_inner.where(high < far, by_outer))
        return found[0], found[2], found[1], found[3]

    return loss, of_sides


def _spread(
    pairs: Pairs,
    grads: list[Tensor],
    by_logits: Tensor,
    by_objectness: Tensor,
    by_sides: list[Tensor],
    by_prior: Tensor,
) -> None:
    """Add gradients of pairs (n,) to those of what the pairs have read."""
    put(grads[0], pairs.runs, by_logits)
    grads[1].scatter_add_(0, pairs.place, by_objectness)
    for total, by_side in zip(grads[2], by_sides, strict=True):
        total.scatter_add_(0, pairs.place, by_side)
    put(grads[3], pairs.lines, pairs.sum_of_lines(by_prior))
    grads[4].scatter_add_(0, pairs.column, by_prior)


def _enter(best: Tensor, weight: Tensor, pairs: Pairs, share: Tensor, targets: Targets) -> None:
    """Enter the positive weights (n,) of pairs among those of all priors, see :class:`PositiveLoss`."""
    rank = LOW_BITS - torch.arange(targets.max_count, device=share.device).repeat(targets.num_images)
    is_meant = share >= MEANT * pairs.of_truth(pairs.amax(share))
    weight.scatter_reduce_(0, pairs.place, share, "amax")
    if share.device.type == "cpu":  # a GPU would have to wait to learn how few they are
        (which,) = is_meant.nonzero(as_tuple=True)
        place, key = pairs.place[which], pack(share[which], rank[pairs.truth[which]])
    else:
        place, key = pairs.place, pack(share, pairs.of_truth(rank)).where(is_meant, -1)
    best.scatter_reduce_(0, place, key, "amax")
