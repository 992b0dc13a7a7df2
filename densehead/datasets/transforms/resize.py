"""Resizing."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

import cv2
import mmcv
import numpy as np
from mmcv.image.geometric import cv2_interp_codes
from mmcv.transforms import Resize as _Resize

from densehead.datasets.transforms import instances
from densehead.datasets.transforms.decoding import UndecodedImage
from densehead.registry import TRANSFORMS


@TRANSFORMS.register_module()
class Resize(_Resize):
    """mmcv's ``Resize`` whose boxes stay float32, and whose images are a pixel wide and high at least.

    Args:
        scale: width, height in pixels; with ``keep_ratio`` the longer and the shorter side that the image must fit
            into. A single number stands for both.
        scale_factor: factor, or (width, height) factors, where there is no ``scale``.
        **kwargs: ``keep_ratio``, ``clip_object_border``, ``backend``, ``interpolation`` as in mmcv.

    Raises:
        ValueError: neither of them, or one of another form.
    """

    def __init__(
        self,
        scale: int | Sequence[int] | None = None,
        scale_factor: float | Sequence[float] | None = None,
        **kwargs,
    ) -> None:
        if scale is None and scale_factor is None:
            raise ValueError("Resize: needs scale=(width, height) in pixels, or scale_factor")
        super().__init__(_pair("scale", scale), _pair("scale_factor", scale_factor), **kwargs)

    def transform(self, results: dict) -> dict:
        """Resize ``img`` and the boxes; an image that was left undecoded is decoded no larger than it takes."""
        if not isinstance(results.get("img"), UndecodedImage):
            return super().transform(results)
        self._decode_resized(results)
        self._resize_bboxes(results)
        return results

    def _decode_resized(self, results: dict) -> None:
        """Fill the results as mmcv's ``Resize`` does with the whole image."""
        undecoded = results["img"]
        height, width = undecoded.size
        results["scale"] = self.scale or tuple(
            int(side * factor + 0.5) for side, factor in zip((width, height), self.scale_factor, strict=True)
        )
        size = self._new_size(width, height, results["scale"])
        # Pillow's interpolation looks at all pixels that it makes smaller: it gets all
        image, part = undecoded.decode(size[1], size[0]) if self.backend == "cv2" else undecoded.decode(height, width)
        if width % part or height % part:
            results["img"] = _resize_part(image, (width / part, height / part), size, self.interpolation)
        else:
            results["img"] = mmcv.imresize(image, size, interpolation=self.interpolation, backend=self.backend)
        self._note_size(results, width, height)

    def _resize_img(self, results: dict) -> None:
        """Resize an image that is decoded; mmcv's own makes nothing of one that is much longer than wide."""
        image = results.get("img")
        if image is not None:
            height, width = image.shape[:2]
            size = self._new_size(width, height, results["scale"])
            results["img"] = mmcv.imresize(image, size, interpolation=self.interpolation, backend=self.backend)
            self._note_size(results, width, height)

    def _new_size(self, width: int, height: int, scale: Sequence[int]) -> tuple[int, int]:
        """Width and height after resizing."""
        size = mmcv.rescale_size((width, height), scale) if self.keep_ratio else scale
        return max(size[0], 1), max(size[1], 1)

    def _note_size(self, results: dict, width: int, height: int) -> None:
        """Fill in what follows from the new image and the width and height of the old one."""
        results["img_shape"] = results["img"].shape[:2]
        results["scale_factor"] = (results["img"].shape[1] / width, results["img"].shape[0] / height)
        results["keep_ratio"] = self.keep_ratio

    def _resize_bboxes(self, results: dict) -> None:
        if results.get("gt_bboxes") is None:
            return
        boxes = results["gt_bboxes"] * np.tile(np.array(results["scale_factor"], dtype=np.float32), 2)
        if self.clip_object_border:
            boxes = instances.clip(boxes, *results["img_shape"])
        results["gt_bboxes"] = boxes


def _resize_part(image: np.ndarray, extent: Sequence[float], size: Sequence[int], interpolation: str) -> np.ndarray:
    """Resize the first ``extent`` (width, height) pixels of an image, which may end within one, to ``size``."""
    x, y = (old / new for old, new in zip(extent, size, strict=True))
    to_old = np.array([[x, 0.0, (x - 1) / 2], [0.0, y, (y - 1) / 2]])  # of indices, pixel i is at i + 0.5
    flags = cv2_interp_codes[interpolation] | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(image, to_old, tuple(size), flags=flags, borderMode=cv2.BORDER_REPLICATE)


def _pair(key: str, value):
    """Return a number or pair as mmcv wants it; lists come from the command line and from JSON."""
    if value is None:
        return value
    if isinstance(value, Real):
        return float(value) if key == "scale_factor" else value
    if isinstance(value, Sequence) and len(value) == 2 and all(isinstance(one, Real) for one in value):
        return tuple(value)
    raise ValueError(f"Resize: {key} must be a number or a pair (width, height), but got {value!r}")
