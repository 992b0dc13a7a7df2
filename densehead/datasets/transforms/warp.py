"""Random geometry: scaling, turning, shearing, moving and mirroring at once, by one warp of the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from densehead.datasets.transforms import instances
from densehead.datasets.transforms.decoding import UndecodedImage
from densehead.registry import TRANSFORMS

Range = Sequence[float]
# at a shear of 45 degrees both axes can fall into one
LIMITS = {"divisible": 1024, "perspective": 1, "rotation": 180, "shear": 44, "translate": 10, "flip": 1}


@TRANSFORMS.register_module()
class RandomWarp(BaseTransform):
    """NanoDet's geometric augmentation: all of it in one matrix, so that pixels are interpolated once.

    About the centre of the image, in this order: perspective, scale, stretch, rotation, shear, flip, translation; then
    the whole image is brought to ``size``. Boxes become the smallest upright boxes around their warped corners, cut at
    the border; those with nothing left go. An image may be left without a box.

    With ``size`` alone it does what ``Resize`` does, and may stand in its place in a pipeline for testing.

    Args:
        size: width, height of the result in pixels. With ``keep_ratio`` the result is the largest of the image's own
            form that fits into it.
        keep_ratio: whether one factor scales both sides. Without, the sides of the image become those of ``size``.
        divisible: with ``keep_ratio``, sides are rounded up to its multiples, the image lies in the middle. 0 for none.
        perspective: largest entry of the perspective row of the matrix (1/pixel, either sign). 0.001 is much.
        scale: smallest and largest factor of both sides.
        stretch: smallest and largest factor of the width, and of the height.
        rotation: largest angle, degrees, either direction.
        shear: largest angle of each axis, degrees, either direction.
        translate: largest way as part of the image's sides, either direction.
        flip: probability of mirroring left and right.
        pad_val: colour where there is no image, one number or BGR.
        pixel_centers: whether pixel ``i`` covers ``i`` to ``i + 1``, as it does for boxes and for ``Resize``. False
            puts its centre at ``i``, as NanoDet's code does: there the image lies beside its boxes, half a pixel where
            it is made much smaller, up to one where it is mirrored.

    Raises:
        ValueError: a number out of its range, or no pair where there must be one.
    """

    def __init__(
        self,
        size: Sequence[int],
        keep_ratio: bool = False,
        divisible: int = 0,
        perspective: float = 0.0,
        scale: Range = (1.0, 1.0),
        stretch: Sequence[Range] = ((1.0, 1.0), (1.0, 1.0)),
        rotation: float = 0.0,
        shear: float = 0.0,
        translate: float = 0.0,
        flip: float = 0.0,
        pad_val: float | Sequence[float] = 0,
        pixel_centers: bool = True,
    ) -> None:
        _check_size(size)
        _check_ranges(scale, stretch)
        given = (divisible, perspective, rotation, shear, translate, flip)
        for (key, limit), value in zip(LIMITS.items(), given, strict=True):
            if not 0 <= value <= limit:
                raise ValueError(f"RandomWarp: {key} must lie in 0 to {limit}, but got {value!r}")
        self.size = tuple(size)
        self.keep_ratio = keep_ratio
        self.divisible = divisible
        self.perspective = perspective
        self.scale = tuple(scale)
        self.stretch = tuple(tuple(one) for one in stretch)
        self.rotation = rotation
        self.shear = shear
        self.translate = translate
        self.flip = flip
        self.pad_val = tuple(pad_val) if isinstance(pad_val, Sequence) else (pad_val,) * 3
        self.pixel_centers = pixel_centers

    def transform(self, results: dict) -> dict:
        """Warp ``img`` and the truth.

        ``warp_matrix`` (3, 3) takes places of the old image to those of the new one. ``scale_factor`` (width, height)
        is what it does without ``keep_ratio`` and where nothing is random.
        """
        source = results["img"]
        height, width = source.size if isinstance(source, UndecodedImage) else source.shape[:2]
        matrix, size = self._fit(width, height)
        matrix = matrix @ self._jitter(width, height)
        of_pixels = _shift(-0.5, -0.5) @ matrix @ _shift(0.5, 0.5) if self.pixel_centers else matrix
        if isinstance(source, UndecodedImage):
            source, to_whole = _decode(source, matrix)
            of_pixels = of_pixels @ to_whole
        image = cv2.warpPerspective(source, of_pixels, dsize=size, borderValue=self.pad_val)
        results["img"] = image.reshape(*image.shape[:2], *source.shape[2:])
        results["img_shape"] = image.shape[:2]
        results["warp_matrix"] = matrix
        if not self.keep_ratio:
            results["scale_factor"] = (size[0] / width, size[1] / height)
        if results.get("gt_bboxes") is not None:
            results["gt_bboxes"], keep = _warp_boxes(results["gt_bboxes"], matrix, *image.shape[:2])
            instances.select(results, keep)
        return results

    def _fit(self, width: int, height: int) -> tuple[np.ndarray, tuple[int, int]]:
        """Return the matrix (3, 3) that brings an image to ``size``, and the size (width, height) of the result."""
        if not self.keep_ratio:
            return np.diag((self.size[0] / width, self.size[1] / height, 1.0)), self.size
        factor = min(self.size[0] / width, self.size[1] / height)
        sides = [max(int(factor * side + 1e-6), 1) for side in (width, height)]
        if self.divisible:
            sides = [math.ceil(side / self.divisible) * self.divisible for side in sides]
        factor = min(sides[0] / width, sides[1] / height)
        middle = _shift(sides[0] / 2, sides[1] / 2)
        return middle @ np.diag((factor, factor, 1.0)) @ _shift(-width / 2, -height / 2), tuple(sides)

    def _jitter(self, width: int, height: int) -> np.ndarray:
        """Return the random part of the matrix (3, 3), from the image to the image."""
        drawn = self._draw()
        perspective, shear = np.eye(3), np.eye(3)
        perspective[2, :2] = drawn["perspective"]
        shear[0, 1], shear[1, 0] = np.tan(np.deg2rad(drawn["shear"]))
        cos, sin = math.cos(math.radians(drawn["rotation"])), math.sin(math.radians(drawn["rotation"]))
        rotation = np.array([[cos, sin, 0], [-sin, cos, 0], [0, 0, 1]])
        scale = np.diag((*(drawn["scale"] * drawn["stretch"]), 1.0))
        flip = np.diag((-1.0 if drawn["flip"] else 1.0, 1.0, 1.0))
        right, down = 0.5 + drawn["translate"]
        return (
            _shift(right * width, down * height)
            @ flip
            @ shear
            @ rotation
            @ scale
            @ perspective
            @ _shift(-width / 2, -height / 2)
        )

    @cache_randomness
    def _draw(self) -> dict:
        """All that is random."""
        uniform = np.random.uniform
        return {
            "perspective": uniform(-self.perspective, self.perspective, 2),
            "scale": uniform(*self.scale),
            "stretch": np.array([uniform(*one) for one in self.stretch]),
            "rotation": uniform(-self.rotation, self.rotation),
            "shear": uniform(-self.shear, self.shear, 2),
            "flip": uniform() < self.flip,
            "translate": uniform(-self.translate, self.translate, 2),
        }

    def __repr__(self) -> str:
        return (
            f"RandomWarp(size={self.size}, keep_ratio={self.keep_ratio}, divisible={self.divisible}, "
            f"perspective={self.perspective}, scale={self.scale}, stretch={self.stretch}, rotation={self.rotation}, "
            f"shear={self.shear}, translate={self.translate}, flip={self.flip}, pixel_centers={self.pixel_centers})"
        )


def _check_size(size) -> None:
    pair = isinstance(size, Sequence) and len(size) == 2 and all(isinstance(side, int) for side in size)
    if not pair or min(size) < 1:
        raise ValueError(f"RandomWarp: size must be (width, height) in positive pixels, but got {size!r}")


def _check_ranges(scale, stretch) -> None:
    if not isinstance(stretch, Sequence) or len(stretch) != 2:
        raise ValueError(f"RandomWarp: stretch must be two ranges, of width and height, but got {stretch!r}")
    for key, given in (("scale", scale), ("stretch[0]", stretch[0]), ("stretch[1]", stretch[1])):
        pair = isinstance(given, Sequence) and len(given) == 2 and all(isinstance(one, Real) for one in given)
        if not pair or not 0 < given[0] <= given[1]:
            raise ValueError(f"RandomWarp: {key} must be (smallest, largest), both positive, but got {given!r}")


def _decode(image: UndecodedImage, matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Decode an image no larger than a warp takes.

    Returns:
        The image, and the matrix (3, 3) from indices of its pixels to those of the whole image.
    """
    # under a perspective the scale differs from place to place, and may be anything
    scale = 1.0 if matrix[2, :2].any() else np.linalg.norm(matrix[:2, :2], 2)
    reduced, part = image.decode(*(side * scale for side in image.size))
    return reduced, _shift(-0.5, -0.5) @ np.diag((part, part, 1.0)) @ _shift(0.5, 0.5)


def _shift(right: float, down: float) -> np.ndarray:
    """Return the matrix (3, 3) that moves by so many pixels."""
    return np.array([[1.0, 0.0, right], [0.0, 1.0, down], [0.0, 0.0, 1.0]])


def _warp_boxes(boxes: np.ndarray, matrix: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Warp boxes (n, 4) and cut them at the border.

    Returns:
        (n, 4) float32 upright boxes around the warped corners, and (n,) bool, which of them have an extent. A box that
        a strong perspective takes beyond the horizon has none.
    """
    corners = np.ones((len(boxes), 4, 3))
    corners[..., :2] = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    corners = corners @ matrix.T
    seen = (corners[..., 2] > 0).all(1)
    places = corners[..., :2] / np.where(corners[..., 2:] > 0, corners[..., 2:], 1)
    warped = instances.clip(np.concatenate([places.min(1), places.max(1)], axis=1), height, width).astype(np.float32)
    return warped, seen & (warped[:, 2:] > warped[:, :2]).all(1)
