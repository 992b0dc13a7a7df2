"""How large a pipeline makes images, and the objects on them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from mmcv.transforms import Compose, RandomApply, RandomChoice, RandomChoiceResize, RandomResize, Resize

from densehead.datasets.transforms import Expand, RandomCrop, RandomWarp

#: Of a random choice among many the smallest, the middle and the largest stand for all.
STANDING = 3
#: What changes sizes and is counted; of other transforms nothing is known but of these that they do not.
_PRESERVING = ("Load", "Pack", "Flip", "PhotoMetric", "ColorJitter", "Filter", "Pad")


@dataclass(frozen=True)
class Scaled:
    """One way a pipeline may go.

    Attributes:
        weight: its probability.
        size: (I, 2) width and height of each image after it, pixels.
        factor: (I, 2) by which its objects became wider and higher.
    """

    weight: float
    size: np.ndarray
    factor: np.ndarray

    def resized(self, size: np.ndarray) -> Scaled:
        """Return it with all images brought to sizes (I, 2)."""
        return replace(self, size=size, factor=self.factor * size / self.size)


def scale(transforms: Iterable, sizes: np.ndarray) -> tuple[list[Scaled], list[str]]:
    """Follow images through a pipeline, by their sizes alone.

    Args:
        transforms: built, in their order.
        sizes: (I, 2) width and height of the images, pixels; those that are not known are NaN.

    Returns:
        The ways that it may go; and the names of transforms that may change sizes in a way that is not known.
    """
    ways, unknown = [Scaled(1.0, sizes, np.ones_like(sizes))], []
    for transform in transforms:
        ways = [after for way in ways for after in _after(transform, way, unknown)]
    return ways, list(dict.fromkeys(unknown))


def _after(transform: Callable, way: Scaled, unknown: list[str]) -> list[Scaled]:
    if isinstance(transform, Compose):
        return _through(transform, way, unknown)
    if isinstance(transform, RandomChoice):
        weights = transform.prob or [1 / len(transform.transforms)] * len(transform.transforms)
        return [
            one
            for weight, branch in zip(weights, transform.transforms, strict=True)
            for one in _through(branch, replace(way, weight=way.weight * weight), unknown)
        ]
    if isinstance(transform, RandomApply):
        applied = _through(transform.transforms, replace(way, weight=way.weight * transform.prob), unknown)
        return [*applied, replace(way, weight=way.weight * (1 - transform.prob))]
    if isinstance(transform, RandomResize | RandomChoiceResize):
        scales = _drawn(transform) if isinstance(transform, RandomResize) else _standing(transform.scales)
        keep_ratio = getattr(transform.resize, "keep_ratio", False)
        part = replace(way, weight=way.weight / len(scales))
        return [part.resized(_fit(part.size, one, keep_ratio)) for one in scales]
    if isinstance(transform, Resize):
        if transform.scale is None:
            return [way.resized(np.floor(way.size * np.array(transform.scale_factor) + 0.5))]
        return [way.resized(_fit(way.size, transform.scale, transform.keep_ratio))]
    if isinstance(transform, RandomWarp):
        return _warped(transform, way)
    return [_cut(transform, way, unknown)]


def _through(transforms: Iterable, way: Scaled, unknown: list[str]) -> list[Scaled]:
    ways = [way]
    for transform in transforms:
        ways = [after for one in ways for after in _after(transform, one, unknown)]
    return ways


def _fit(sizes: np.ndarray, scale, keep_ratio: bool) -> np.ndarray:
    """Return the sizes (I, 2) of images that are resized to a scale, as mmcv's ``rescale_size`` does it."""
    scale = np.array((scale, scale) if np.isscalar(scale) else tuple(scale), dtype=np.float64)
    if not keep_ratio:
        return np.broadcast_to(scale, sizes.shape)
    long, short = scale.max(), scale.min()
    factor = np.minimum(long / sizes.max(1), short / sizes.min(1))
    with np.errstate(invalid="ignore"):
        return np.maximum(np.floor(sizes * factor[:, None] + 0.5), 1)


def _drawn(transform: RandomResize) -> list[tuple[float, float]]:
    """The smallest, the middle and the largest scale of a range."""
    parts = np.linspace(0, 1, STANDING)
    if transform.ratio_range is not None and np.isscalar(transform.scale[0]):
        low, high = transform.ratio_range
        return [tuple(side * (low + part * (high - low)) for side in transform.scale) for part in parts]
    pairs = np.array(transform.scale, dtype=np.float64).reshape(-1, 2)
    low, high = pairs.min(0), pairs.max(0)
    return [tuple(low + part * (high - low)) for part in parts]


def _standing(scales: Sequence) -> list:
    """The smallest, the middle and the largest of many scales."""
    ordered = sorted(scales, key=lambda one: np.prod((one, one) if np.isscalar(one) else one))
    if len(ordered) <= STANDING:
        return ordered
    return [ordered[round(part * (len(ordered) - 1))] for part in np.linspace(0, 1, STANDING)]


def _warped(transform: RandomWarp, way: Scaled) -> list[Scaled]:
    sizes = np.broadcast_to(np.array(transform.size, dtype=np.float64), way.size.shape)
    factor = sizes / way.size
    if transform.keep_ratio:
        sizes = np.maximum(np.floor(way.size * factor.min(1, keepdims=True) + 1e-6), 1)
        if transform.divisible:
            sizes = np.ceil(sizes / transform.divisible) * transform.divisible
        factor = (sizes / way.size).min(1, keepdims=True)
    stretch = np.array([np.mean(one) for one in transform.stretch])
    scales = dict.fromkeys((transform.scale[0], (transform.scale[0] + transform.scale[1]) / 2, transform.scale[1]))
    weight = way.weight / len(scales)
    return [Scaled(weight, sizes, way.factor * factor * stretch * one) for one in scales]


def _cut(transform: Callable, way: Scaled, unknown: list[str]) -> Scaled:
    """What cuts images or puts them on larger ones changes the sizes that later transforms see."""
    if isinstance(transform, RandomCrop):
        return replace(way, size=_window(transform, way.size))
    if isinstance(transform, Expand):
        factor = 1 + transform.prob * (np.mean(transform.ratio_range) - 1)
        return replace(way, size=way.size * factor)
    name = type(transform).__name__
    if not any(one in name for one in _PRESERVING):
        unknown.append(name)
    return way


def _window(transform: RandomCrop, sizes: np.ndarray) -> np.ndarray:
    """The sizes (I, 2) of windows of the middle size that a crop draws."""
    crop = np.array(transform.crop_size, dtype=np.float64)
    if transform.crop_type.startswith("absolute"):
        return np.minimum(sizes, crop.mean() if transform.crop_type.endswith("range") else crop)
    return sizes * ((1 + crop[::-1]) / 2 if transform.crop_type.endswith("range") else crop)
