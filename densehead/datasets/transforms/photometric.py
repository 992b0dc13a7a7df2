"""Changing colours."""

from __future__ import annotations

from collections.abc import Sequence

import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from densehead.registry import TRANSFORMS


@TRANSFORMS.register_module()
class PhotoMetricDistortion(BaseTransform):
    """SSD's distortion of colours: brightness, contrast, saturation, hue, order of channels, each with probability 0.5.

    Contrast comes before or after saturation and hue, by another coin. The image becomes float32, and is not clipped.

    Args:
        brightness_delta: largest change, in steps of 0..255.
        contrast_range, saturation_range: smallest and largest factor.
        hue_delta: largest change, degrees.
    """

    def __init__(
        self,
        brightness_delta: float = 32,
        contrast_range: Sequence[float] = (0.5, 1.5),
        saturation_range: Sequence[float] = (0.5, 1.5),
        hue_delta: float = 18,
    ) -> None:
        self.brightness_delta = brightness_delta
        self.contrast_range = tuple(contrast_range)
        self.saturation_range = tuple(saturation_range)
        self.hue_delta = hue_delta

    @cache_randomness
    def _draw(self) -> dict:
        """All that is random, in the order that mmdetection draws it; what its coin leaves out is None."""
        late_contrast, *coins = (not np.random.randint(2) for _ in range(6))
        values = (
            np.random.uniform(-self.brightness_delta, self.brightness_delta),
            np.random.uniform(*self.contrast_range),
            np.random.uniform(*self.saturation_range),
            np.random.uniform(-self.hue_delta, self.hue_delta),
            np.random.permutation(3),
        )
        names = ("brightness", "contrast", "saturation", "hue", "channels")
        drawn = {name: None if tails else value for name, tails, value in zip(names, coins, values, strict=True)}
        return drawn | {"late_contrast": late_contrast}

    def transform(self, results: dict) -> dict:
        """Change ``img`` (BGR, 0..255)."""
        image = results["img"].astype(np.float32)
        drawn = self._draw()
        if drawn["brightness"] is not None:
            image += drawn["brightness"]
        if drawn["contrast"] is not None and not drawn["late_contrast"]:
            image *= drawn["contrast"]
        image = self._distort_hsv(image, drawn["saturation"], drawn["hue"])
        if drawn["contrast"] is not None and drawn["late_contrast"]:
            image *= drawn["contrast"]
        if drawn["channels"] is not None:
            image = image[..., drawn["channels"]]
        results["img"] = image
        return results

    @staticmethod
    def _distort_hsv(image: np.ndarray, saturation: float | None, hue: float | None) -> np.ndarray:
        hsv = mmcv.bgr2hsv(image)  # of a float image: hue in degrees, saturation in 0..1
        if saturation is not None:
            hsv[..., 1] *= saturation
            if saturation > 1:
                hsv[..., 1] = hsv[..., 1].clip(0, 1)
        if hue is not None:
            hsv[..., 0] = (hsv[..., 0] + hue) % 360
        return mmcv.hsv2bgr(hsv)

    def __repr__(self) -> str:
        return (
            f"PhotoMetricDistortion(brightness_delta={self.brightness_delta}, contrast_range={self.contrast_range}, "
            f"saturation_range={self.saturation_range}, hue_delta={self.hue_delta})"
        )


@TRANSFORMS.register_module()
class RandomColorJitter(BaseTransform):
    """NanoDet's change of colours: brightness, contrast and saturation, each by a coin of its own.

    The image becomes float32, and is not clipped.

    Args:
        brightness: largest change, as part of the full range 0..255.
        contrast: smallest and largest factor of all values.
        saturation: smallest and largest factor of how far each channel is from the strongest of its pixel, which is the
            saturation of HSV.
        prob: probability of each of the three.

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(
        self,
        brightness: float = 0.2,
        contrast: Sequence[float] = (0.6, 1.4),
        saturation: Sequence[float] = (0.5, 1.2),
        prob: float = 0.5,
    ) -> None:
        for key, value in (("brightness", brightness), ("prob", prob)):
            if not 0 <= value <= 1:
                raise ValueError(f"RandomColorJitter: {key} must lie in 0 to 1, but got {value!r}")
        for key, pair in (("contrast", contrast), ("saturation", saturation)):
            if len(pair) != 2 or not 0 <= pair[0] <= pair[1]:
                raise ValueError(f"RandomColorJitter: {key} must be (smallest, largest) factor, but got {pair!r}")
        self.brightness = brightness
        self.contrast = tuple(contrast)
        self.saturation = tuple(saturation)
        self.prob = prob

    @cache_randomness
    def _draw(self) -> dict:
        """All that is random; what its coin leaves out is None."""
        values = {
            "brightness": np.random.uniform(-self.brightness, self.brightness),
            "contrast": np.random.uniform(*self.contrast),
            "saturation": np.random.uniform(*self.saturation),
        }
        return {name: value if np.random.uniform() < self.prob else None for name, value in values.items()}

    def transform(self, results: dict) -> dict:
        """Change ``img`` (three channels, 0..255)."""
        image = results["img"].astype(np.float32)
        drawn = self._draw()
        if drawn["brightness"] is not None:
            image += 255 * drawn["brightness"]
        if drawn["contrast"] is not None:
            image *= drawn["contrast"]
        if drawn["saturation"] is not None:
            peak = np.maximum(np.maximum(image[..., 0], image[..., 1]), image[..., 2])[..., None]
            image = peak + drawn["saturation"] * (image - peak)
        results["img"] = image
        return results

    def __repr__(self) -> str:
        return (
            f"RandomColorJitter(brightness={self.brightness}, contrast={self.contrast}, "
            f"saturation={self.saturation}, prob={self.prob})"
        )
