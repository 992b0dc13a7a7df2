"""Which classes of which priors go to suppression: above a threshold, the best of each level and image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from densehead.structures import LevelTensor, Predictions

if TYPE_CHECKING:
    from densehead.models.heads.base import DenseHead

SHIFT = 6
BLOCK = 1 << SHIFT  # scores of which the greatest is looked at first


@dataclass(frozen=True)
class Candidates:
    """Detections before suppression, image by image: ``N`` classes of ``M`` priors, whose boxes they share.

    Attributes:
        image_index, labels, scores: (N,) each.
        place: (N,) which of the ``M`` priors.
        place_image, place_prior: (M,) the images, in order, and their priors.
    """

    image_index: Tensor
    place: Tensor
    labels: Tensor
    scores: Tensor
    place_image: Tensor
    place_prior: Tensor

    @property
    def prior_index(self) -> Tensor:
        """(N,) the priors."""
        return self.place_prior[self.place]

    def take(self, index: Tensor) -> Candidates:
        """Return those at (n,) or of a mask (N,)."""
        own = (one[index] for one in (self.image_index, self.place, self.labels, self.scores))
        return Candidates(*own, self.place_image, self.place_prior)


def find_classes(head: DenseHead, predictions: Predictions, cfg: Mapping) -> Candidates:
    """Return the classes of priors whose own score is above ``score_thr``, of a level the ``nms_pre`` best of them."""
    image, prior, labels, scores = candidates(
        predictions["cls_logits"], cfg.get("score_thr", 0), cfg.get("nms_pre", -1), is_sigmoid=head.use_sigmoid_cls
    )
    image, order = image.sort(stable=True)
    prior, labels, scores = prior[order], labels[order], scores[order]
    if "quality_logits" in predictions:
        quality = predictions["quality_logits"].at(image, prior)[:, 0].float()
        scores = head.fuse_scores(scores, quality)
    return Candidates(image, torch.arange(len(image), device=image.device), labels, scores, image, prior)


def find_priors(head: DenseHead, predictions: Predictions, cfg: Mapping) -> Candidates:
    """Return the classes of priors whose fused score is above ``score_thr``, of the ``nms_pre`` best priors of a level.

    A prior is as good as its best class, so one that is among the best may bring several candidates.
    """
    score_thr, nms_pre = cfg.get("score_thr", 0), cfg.get("nms_pre", -1)
    has_quality = "quality_logits" in predictions
    images, places, start = [], [], 0
    for number, level in enumerate(predictions["cls_logits"].maps):
        base, area = head.num_base_priors, level.shape[-2] * level.shape[-1]
        best = _best_class(level.unflatten(1, (base, -1)), head.use_sigmoid_cls)  # (B, A, h, w)
        if has_quality:
            best = head.fuse_scores(best, predictions["quality_logits"].maps[number].float())
        rows = best.flatten(1)
        image, index = _above(rows, score_thr)
        if nms_pre > 0:
            image, index, _ = _best_of_each_image(image, index, rows[image, index], nms_pre, rows.shape[0])
        images.append(image)
        places.append(start + index % area * base + index // area)
        start += area * base
    image, order = torch.cat(images).sort(stable=True)
    prior = torch.cat(places)[order]
    scores = predictions.scores_at(image, prior)
    if has_quality:
        scores = head.fuse_scores(scores, predictions["quality_logits"].at(image, prior).float())
    row, label = (scores > score_thr).nonzero(as_tuple=True)
    return Candidates(image[row], row, label, scores[row, label], image, prior)


def _best_class(logits: Tensor, is_sigmoid: bool) -> Tensor:
    """(B, A, h, w) the score of the best class, from logits (B, A, C, h, w)."""
    return logits.amax(2).float().sigmoid() if is_sigmoid else logits.float().softmax(2)[:, :, :-1].amax(2)


def candidates(
    logits: LevelTensor, score_thr: float, nms_pre: int, *, is_sigmoid: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the classes of priors that score above ``score_thr``, of each level and image the ``nms_pre`` best.

    Sigmoid scores are compared before the sigmoid, which is then taken of the survivors only.

    Args:
        logits: C numbers a prior, or, where the scores are a softmax, C + 1 with the background last.
        score_thr: in [0, 1].
        nms_pre: all if not positive.
        is_sigmoid: which of the two.

    Returns:
        (N,) each, level by level: image, prior, class and score.
    """
    images, places, labels, values = [], [], [], []
    start = 0
    for level in logits.maps:
        scores = level.unflatten(1, (logits.num_base_priors, -1))  # (B, A, C, h, w)
        if not is_sigmoid:
            scores = scores.float().softmax(2)[:, :, :-1]
        rows = scores.flatten(1)
        image, index = _above(rows, _logit(score_thr) if is_sigmoid else score_thr)
        value = rows[image, index].float()
        if nms_pre > 0:
            image, index, value = _best_of_each_image(image, index, value, nms_pre, rows.shape[0])
        area = level.shape[-2] * level.shape[-1]
        channel = index.div(area, rounding_mode="floor")
        base = channel.div(scores.shape[2], rounding_mode="floor") if logits.num_base_priors > 1 else 0
        images.append(image)
        places.append((index - channel * area) * logits.num_base_priors + (start + base))
        labels.append(channel - base * scores.shape[2])
        values.append(value)
        start += area * logits.num_base_priors
    value = torch.cat(values)
    scores = value.sigmoid() if is_sigmoid else value
    return torch.cat(images), torch.cat(places), torch.cat(labels), scores


def _logit(score: float) -> float:
    if score <= 0:
        return -math.inf
    return math.inf if score >= 1 else math.log(score / (1 - score))


def _above(rows: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return rows and columns of the few entries of (n, m) that are above a threshold, row by row.

    On the host the greatest of a block is looked at first: most scores are of background.
    """
    flat = rows.flatten()
    whole = flat.numel() // BLOCK * BLOCK
    if flat.is_cuda or not whole:
        return (rows > threshold).nonzero(as_tuple=True)
    blocks = flat[:whole].view(-1, BLOCK)
    block = (~(blocks.amax(1) <= threshold)).nonzero().squeeze(1)  # with those that hold a NaN
    hit = (blocks.index_select(0, block) > threshold).flatten().nonzero().squeeze(1)
    index = (block.index_select(0, hit >> SHIFT) << SHIFT) + (hit & BLOCK - 1)
    if whole < flat.numel():
        index = torch.cat([index, (flat[whole:] > threshold).nonzero().squeeze(1) + whole])
    row = index.div(rows.shape[1], rounding_mode="floor")
    return row, index - row * rows.shape[1]


def _best_of_each_image(
    image: Tensor, index: Tensor, value: Tensor, count: int, num_images: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Keep of every image the ``count`` entries of the highest value; entries come image by image."""
    counts = image.bincount(minlength=num_images).tolist()
    if max(counts) <= count:
        return image, index, value
    keep, start = [], 0
    for number in counts:
        best = value[start : start + number].topk(min(count, number)).indices
        keep.append(best + start)
        start += number
    keep = torch.cat(keep)
    return image[keep], index[keep], value[keep]
