"""Feature and score maps of each pyramid level, as numbers of places."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from densehead.models.heads import DenseHead
from densehead.typing import LevelMaps

MEAN, PCA = FEATURES = ("mean", "pca")


@dataclass(frozen=True)
class Level:
    """What a pyramid level says of an image, (h, w) each.

    Attributes:
        stride: pixels of the input between places, along x and y.
        feature: how strongly the features respond.
        score: the highest class score of a place (or that of one class), before it is joined with the quality.
        best_class: the class of the highest ``score``, and of the highest ``joined``, by these names.
        quality: centre-ness, IoU or objectness; None for a head that has none.
        joined: score and quality as detections are ranked by them; None likewise.
    """

    stride: tuple[float, float]
    feature: np.ndarray
    score: np.ndarray
    best_class: dict[str, int]
    quality: np.ndarray | None = None
    joined: np.ndarray | None = None


@torch.no_grad()
def read_levels(
    head: DenseHead,
    features: Sequence[Tensor],
    maps: tuple[LevelMaps, ...],
    *,
    feature: str = MEAN,
    label: int | None = None,
) -> list[Level]:
    """Read the levels of one image.

    Args:
        head: that put out the maps.
        features: what it read, (1, c, h, w) a level.
        maps: what ``head.forward`` returned for it.
        feature: ``'mean'``, the mean of the absolute features, or ``'pca'``, their first principal component over the
            places of a level, with the sign that goes with the mean.
        label: the class whose scores are wanted; the highest of all classes if None.

    Raises:
        ValueError: another ``feature``.
    """
    if feature not in FEATURES:
        raise ValueError(f"feature must be one of {FEATURES}, but got {feature!r}")
    respond = _mean if feature == MEAN else _first_component
    named = dict(zip(head.map_names, maps, strict=False))
    qualities = named.get("quality_logits", [None] * len(features))
    strides = head.prior_generator.strides
    levels = []
    for one, logits, quality, stride in zip(features, named["cls_logits"], qualities, strides, strict=True):
        scores = {"score": _scores(head, logits[0])}  # (A, C, h, w)
        read = {"feature": respond(one[0].float())}
        if quality is not None:
            each = quality[0].float().unflatten(0, (head.num_base_priors, 1))
            read["quality"] = each.sigmoid().amax((0, 1))
            scores["joined"] = head.fuse_scores(scores["score"], each)
        if label is not None:
            scores = {name: values[:, label : label + 1] for name, values in scores.items()}
        read |= {name: values.amax((0, 1)) for name, values in scores.items()}
        best = {
            name: label if label is not None else int(values.amax((0, 2, 3)).argmax())
            for name, values in scores.items()
        }
        pair = tuple(stride) if isinstance(stride, Sequence) else (stride, stride)
        levels.append(Level(pair, best_class=best, **{name: value.cpu().numpy() for name, value in read.items()}))
    return levels


def _scores(head: DenseHead, logits: Tensor) -> Tensor:
    """(A * c, h, w) to (A, C, h, w) probabilities."""
    logits = logits.float().unflatten(0, (head.num_base_priors, -1))
    return logits.sigmoid() if head.use_sigmoid_cls else logits.softmax(1)[:, :-1]


def _mean(feature: Tensor) -> Tensor:
    return feature.abs().mean(0)


def _first_component(feature: Tensor) -> Tensor:
    """(c, h, w) to (h, w): coordinates of the places along the direction in which they differ most."""
    places = feature.flatten(1).T  # (h * w, c)
    places = places - places.mean(0)
    _, directions = torch.linalg.eigh(places.T @ places)  # ascending
    along = places @ directions[:, -1]
    mean = _mean(feature).flatten()
    sign = 1.0 if (along * (mean - mean.mean())).sum() >= 0 else -1.0
    return (sign * along).view(feature.shape[1:])
