"""The losses as pure functions, one value per element (or per box), without weights or means.

Everything is written for float32 and wider; the modules see to that. Logits are before the sigmoid. Boxes are xyxy.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from densehead.models.losses.distribution import distribution_focal_loss, mean_and_focal_loss
from densehead.ops import aligned_iou

__all__ = [
    "bounded_iou_loss",
    "ciou_loss",
    "diou_loss",
    "distribution_focal_loss",
    "eiou_loss",
    "focal_loss",
    "focal_term",
    "giou_loss",
    "iou_loss",
    "mean_and_focal_loss",
    "quality_focal_loss",
    "siou_loss",
    "smooth_l1_loss",
    "varifocal_loss",
]


def focal_term(wrong_logits: Tensor, gamma: float) -> Tensor:
    """Return ``(1 - p_t)^gamma * -log p_t`` (Lin et al., ICCV 2017, eq. 4) for the logit ``z`` of the wrong answer.

    ``z`` is the logit itself for a negative and its opposite for a positive, so that ``1 - p_t = sigmoid(z)`` and
    ``-log p_t = softplus(z)``: neither cancels, however sure the answer is.
    """
    return wrong_logits.sigmoid() ** gamma * F.softplus(wrong_logits)


def _cross_entropy(pred: Tensor, target: Tensor, activated: bool) -> tuple[Tensor, Tensor]:
    """Return the binary cross entropy and the scores of logits, or of scores if ``activated``."""
    if activated:
        return F.binary_cross_entropy(pred, target, reduction="none"), pred
    return F.binary_cross_entropy_with_logits(pred, target, reduction="none"), pred.sigmoid()


def focal_loss(pred: Tensor, target: Tensor, gamma: float, alpha: float, activated: bool = False) -> Tensor:
    """Return the focal loss (Lin et al., ICCV 2017, eq. 5) of targets in [0, 1], which may be soft.

    Args:
        pred: (...) logits, or scores if ``activated``.
        target: (...) of the same shape.
        gamma: focusing exponent.
        alpha: weight of the positives; negatives weigh ``1 - alpha``.
        activated: whether ``pred`` has been through the sigmoid.
    """
    entropy, score = _cross_entropy(pred, target, activated)
    miss = (1 - score) * target + score * (1 - target)
    return (alpha * target + (1 - alpha) * (1 - target)) * miss**gamma * entropy


def quality_focal_loss(pred: Tensor, target: Tensor, beta: float, activated: bool = False) -> Tensor:
    """Return the quality focal loss (Li et al., NeurIPS 2020, eq. 2) of quality targets in [0, 1], element by element.

    Args:
        pred: (N, C) logits, or scores if ``activated``.
        target: (N, C) the quality at the true class, 0 elsewhere.
        beta: focusing exponent.
        activated: whether ``pred`` has been through the sigmoid.
    """
    entropy, score = _cross_entropy(pred, target, activated)
    return (target - score).abs() ** beta * entropy


def varifocal_loss(logits: Tensor, target: Tensor, alpha: float, gamma: float, iou_weighted: bool) -> Tensor:
    """Return the varifocal loss (Zhang et al., CVPR 2021, eq. 2) of quality targets, element by element.

    Args:
        logits: (N, C).
        target: (N, C) the quality at the true class, 0 elsewhere.
        alpha: weight of the negatives.
        gamma: focusing exponent of the negatives.
        iou_weighted: whether positives weigh by their target, or 1.
    """
    entropy, score = _cross_entropy(logits, target, activated=False)
    negative = alpha * (score - target).abs() ** gamma
    return torch.where(target > 0, target if iou_weighted else 1.0, negative) * entropy


def smooth_l1_loss(pred: Tensor, target: Tensor, beta: float) -> Tensor:
    """Return the smooth L1 loss (Girshick, ICCV 2015, eq. 3), quadratic below ``beta``."""
    return _huber((pred - target).abs(), beta)


def _huber(distance: Tensor, beta: float) -> Tensor:
    return torch.where(distance < beta, 0.5 * distance**2 / beta, distance - 0.5 * beta)


def iou_loss(pred: Tensor, target: Tensor, mode: str, eps: float) -> Tensor:
    """Return (N,) ``-log IoU`` (Yu et al., ACM MM 2016), ``1 - IoU`` or ``1 - IoU^2`` of boxes (N, 4).

    Args:
        pred: (N, 4).
        target: (N, 4).
        mode: ``'log'``, ``'linear'`` or ``'square'``.
        eps: the least IoU, so that boxes apart have a finite loss.
    """
    iou = aligned_iou(pred, target).clamp(min=eps)
    if mode == "log":
        return -iou.log()
    return 1 - (iou if mode == "linear" else iou**2)


def giou_loss(pred: Tensor, target: Tensor, eps: float) -> Tensor:
    """Return (N,) ``1 - GIoU`` (Rezatofighi et al., CVPR 2019, algorithm 2) of boxes (N, 4)."""
    return 1 - aligned_iou(pred, target, mode="giou", eps=eps)


def _sides(boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Return width and height."""
    return (boxes[:, 2:] - boxes[:, :2]).unbind(-1)


def _shift(pred: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return how far the target's centre lies to the right and below the prediction's."""
    return ((target[:, :2] + target[:, 2:] - pred[:, :2] - pred[:, 2:]) / 2).unbind(-1)


def _hull(pred: Tensor, target: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Return width and height of the smallest box around both."""
    low, high = torch.minimum(pred[:, :2], target[:, :2]), torch.maximum(pred[:, 2:], target[:, 2:])
    return (high - low).clamp(min=least).unbind(-1)


def _padded_iou(pred: Tensor, target: Tensor, eps: float) -> Tensor:
    """Return the IoU with ``eps`` added to the union, as the losses after DIoU define it."""
    low, high = torch.maximum(pred[:, :2], target[:, :2]), torch.minimum(pred[:, 2:], target[:, 2:])
    intersection = (high - low).clamp(min=0).prod(-1)
    (width, height), (true_width, true_height) = _sides(pred), _sides(target)
    return intersection / (width * height + true_width * true_height - intersection + eps)


def _distance_term(pred: Tensor, target: Tensor, eps: float) -> Tensor:
    """Return the squared distance of the centres over the squared diagonal of the hull (Zheng et al., eq. 6)."""
    (right, down), (width, height) = _shift(pred, target), _hull(pred, target, 0)
    return (right**2 + down**2) / (width**2 + height**2 + eps)


def diou_loss(pred: Tensor, target: Tensor, eps: float) -> Tensor:
    """Return (N,) the distance-IoU loss (Zheng et al., AAAI 2020, eq. 7) of boxes (N, 4)."""
    return 1 - _padded_iou(pred, target, eps) + _distance_term(pred, target, eps)


def ciou_loss(pred: Tensor, target: Tensor, eps: float) -> Tensor:
    """Return (N,) the complete-IoU loss (Zheng et al., IEEE Trans. Cybernetics 2021, eq. 10 and 12), in [0, 2].

    The aspect-ratio term counts above an IoU of 0.5 only, and its factor is a constant for the gradient.
    """
    iou = _padded_iou(pred, target, eps)
    (width, height), (true_width, true_height) = _sides(pred), _sides(target)
    angle = torch.atan(true_width / (true_height + eps)) - torch.atan(width / (height + eps))
    aspect = 4 / math.pi**2 * angle**2
    with torch.no_grad():  # the denominator is 0 for a perfect box
        factor = torch.where(iou > 0.5, aspect / (1 - iou + aspect).clamp(min=eps), 0.0)
    return 1 - (iou - _distance_term(pred, target, eps) - factor * aspect).clamp(min=-1, max=1)


def eiou_loss(pred: Tensor, target: Tensor, smooth_point: float, eps: float) -> Tensor:
    """Return (N,) the extended-IoU loss (Peng and Yu, TCSVT 2021) of boxes (N, 4), quadratic below ``smooth_point``.

    The intersection is extended to boxes apart, where it is negative and grows with the gap. It is measured from the
    top left corner of the hull: areas up to the far corner, and up to the near one, less those of the two strips.
    """
    corner = torch.minimum(pred[:, :2], target[:, :2])
    low = torch.maximum(pred[:, :2], target[:, :2]) - corner
    high = torch.minimum(pred[:, 2:], target[:, 2:]) - corner
    near, far = torch.minimum(low, high), torch.maximum(low, high)
    strips = low[:, 0] * far[:, 1] + far[:, 0] * low[:, 1]
    intersection = high.prod(-1) + near.prod(-1) - strips
    (width, height), (true_width, true_height) = _sides(pred), _sides(target)
    union = width * height + true_width * true_height - intersection + eps
    return _huber(1 - intersection / union, smooth_point)


def siou_loss(pred: Tensor, target: Tensor, eps: float, neg_gamma: bool) -> Tensor:
    """Return (N,) the SIoU loss (Gevorgyan, arXiv:2205.12740) of boxes (N, 4), in [0, 2].

    Args:
        pred: (N, 4).
        target: (N, 4).
        eps: keeps the quotients finite.
        neg_gamma: take the exponent's sign of the paper (eq. 5), under which training is less stable.
    """
    right, down = (shift + eps for shift in _shift(pred, target))
    hull_width, hull_height = _hull(pred, target, eps)
    distance = (right**2 + down**2) ** 0.5
    sine = right.abs() / distance
    sine = torch.where(sine > math.sqrt(0.5), down.abs() / distance, sine)
    angle_cost = torch.sin(2 * torch.asin(sine))
    gamma = angle_cost - 2 if neg_gamma else 2 - angle_cost
    # The squares are at most 1, but for boxes inside out, over which exp must not overflow.
    across, along = ((right / hull_width) ** 2).clamp(max=32), ((down / hull_height) ** 2).clamp(max=32)
    distance_cost = 2 - torch.exp(gamma * across) - torch.exp(gamma * along)
    (width, height), (true_width, true_height) = _sides(pred), _sides(target)
    shape_cost = _unlikeness(width, true_width, eps) + _unlikeness(height + eps, true_height + eps, eps)
    return 1 - (_padded_iou(pred, target, eps) - 0.5 * (distance_cost + shape_cost)).clamp(min=-1, max=1)


def _unlikeness(size: Tensor, true_size: Tensor, eps: float) -> Tensor:
    relative = (size - true_size).abs() / torch.maximum(size, true_size).clamp(min=eps)
    return (1 - torch.exp(-relative)) ** 4


def bounded_iou_loss(pred: Tensor, target: Tensor, beta: float, eps: float) -> Tensor:
    """Return (N, 4) the bounded IoU loss (Tychsen-Smith and Petersson, CVPR 2018, eq. 8 to 11): x, y, width, height.

    Args:
        pred: (N, 4).
        target: (N, 4).
        beta: below it the loss is quadratic.
        eps: keeps the quotients finite.
    """
    target = target.detach()
    size, true_size = pred[:, 2:] - pred[:, :2], target[:, 2:] - target[:, :2]
    gap = torch.stack(_shift(pred, target), -1).abs() * 2
    of_centre = 1 - ((true_size - gap) / (true_size + gap + eps)).clamp(min=0)
    of_size = 1 - torch.minimum(true_size / (size + eps), size / (true_size + eps))
    return _huber(torch.cat((of_centre, of_size), -1), beta)
