"""Resizing."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Real

import numpy as np
from mmcv.transforms import Resize as _Resize

from densehead.datasets.transforms import instances
from densehead.registry import TRANSFORMS


@TRANSFORMS.register_module()
class Resize(_Resize):
    """mmcv's ``Resize`` whose boxes stay float32.

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

    def _resize_bboxes(self, results: dict) -> None:
        if results.get("gt_bboxes") is None:
            return
        boxes = results["gt_bboxes"] * np.tile(np.array(results["scale_factor"], dtype=np.float32), 2)
        if self.clip_object_border:
            boxes = instances.clip(boxes, *results["img_shape"])
        results["gt_bboxes"] = boxes


def _pair(key: str, value):
    """Return a number or pair as mmcv wants it; lists come from the command line and from JSON."""
    if value is None:
        return value
    if isinstance(value, Real):
        return float(value) if key == "scale_factor" else value
    if isinstance(value, Sequence) and len(value) == 2 and all(isinstance(one, Real) for one in value):
        return tuple(value)
    raise ValueError(f"Resize: {key} must be a number or a pair (width, height), but got {value!r}")
