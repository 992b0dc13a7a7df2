"""The losses of AutoAssign in plain loops over images, truths and priors, as its paper tells them."""

from __future__ import annotations

import torch
from torch import Tensor

from densehead.structures import Priors


def iou_and_giou(a: list[Tensor], b: list[float]) -> tuple[Tensor, Tensor]:
    width = (torch.clamp(a[2], max=b[2]) - torch.clamp(a[0], min=b[0])).clamp(min=0)
    height = (torch.clamp(a[3], max=b[3]) - torch.clamp(a[1], min=b[1])).clamp(min=0)
    both = width * height
    union = ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both).clamp(min=1e-6)
    hull_width = torch.clamp(a[2], min=b[2]) - torch.clamp(a[0], max=b[0])
    hull_height = torch.clamp(a[3], min=b[3]) - torch.clamp(a[1], max=b[1])
    hull = (hull_width * hull_height).clamp(min=1e-6)
    return both / union, both / union - (hull - union) / hull


def inside(point: list[float], box: list[float]) -> bool:
    return box[0] < point[0] < box[2] and box[1] < point[1] < box[3]


def centre_prior(point, stride, box, mean: Tensor, sigma: Tensor) -> Tensor:
    weight = 1.0
    for axis in range(2):
        distance = (point[axis] - (box[axis] + box[axis + 2]) / 2) / stride - mean[axis]
        weight = weight * torch.exp(-(distance**2) / (2 * sigma[axis] ** 2))
    return weight


def losses(
    cls: Tensor,
    ltrb: Tensor,
    objectness: Tensor,
    priors: Priors,
    truth: list[tuple[Tensor, Tensor]],
    mean: Tensor,
    sigma: Tensor,
    *,
    box_weight: float,
    topk: int = 0,
) -> dict[str, Tensor]:
    """Return the three losses with all weights 1.

    Args:
        cls: (B, P, C) before the sigmoid.
        ltrb: (B, P, 4) pixels.
        objectness: (B, P) before the sigmoid.
        priors: points.
        truth: boxes and labels of each image.
        mean, sigma: (C, 2).
        box_weight: factor of the GIoU loss.
        topk: of ``force_topk``, 0 without.
    """
    points, strides = priors.points.tolist(), priors.strides.tolist()
    joint = cls.sigmoid() * objectness.sigmoid()[..., None]
    positive, spared, centres, prior_sum, count = [], torch.zeros_like(cls), [], 0.0, 0
    for image, (boxes, labels) in enumerate(truth):
        image_sum = 0.0
        count += len(boxes)
        pred = [
            [x - ltrb[image, p, 0], y - ltrb[image, p, 1], x + ltrb[image, p, 2], y + ltrb[image, p, 3]]
            for p, (x, y) in enumerate(points)
        ]
        for box, label in zip(boxes.tolist(), labels.tolist()):
            mine = [p for p, point in enumerate(points) if inside(point, box)]
            weights = {
                p: centre_prior(points[p], strides[p], box, mean[label], sigma[label]) for p in range(len(points))
            }
            if not mine and topk:
                mine = sorted(weights, key=lambda p: (-weights[p].item(), p))[:topk]
            if not mine:
                positive.append(torch.tensor(100.0, dtype=cls.dtype))
                continue
            confidence = {
                p: joint[image, p, label] * torch.exp(-box_weight * (1 - iou_and_giou(pred[p], box)[1])) for p in mine
            }
            shares = {p: torch.exp(3 * confidence[p]) * weights[p] for p in mine}
            likelihood = sum(shares[p] * confidence[p] for p in mine) / sum(shares.values())
            positive.append(-torch.log(likelihood))
            image_sum = image_sum + sum(weights[p] for p in mine)
            values = {}
            for p in mine:
                best = max(iou_and_giou(pred[p], other)[0].item() for other in boxes.tolist())
                values[p] = 1 / max(1 - best, 1e-12)
            low, high = min(values.values()), max(values.values())
            for p in mine:  # where boxes of a class overlap, the last truth has the word
                spared[image, p, label] = (values[p] - low + 1e-12) / (high - low + 1e-12)
        prior_sum = prior_sum + image_sum
        centres.append(len(boxes) / image_sum if isinstance(image_sum, Tensor) else torch.zeros((), dtype=cls.dtype))
    rest = joint * (1 - spared)
    negative = -(rest**2 * torch.log(1 - rest)).sum()
    return dict(
        loss_pos=sum(positive, torch.zeros((), dtype=cls.dtype)) / max(count, 1),
        loss_neg=negative / max(float(torch.as_tensor(prior_sum).detach()), 1.0),
        loss_center=sum(centres) / len(centres),
    )
