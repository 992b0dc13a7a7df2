"""Transforms that cut the image, or put it on a larger one."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmcv.transforms.utils import cache_randomness

from densehead.datasets.transforms import instances
from densehead.ops import pairwise_iou
from densehead.registry import TRANSFORMS

CROP_TYPES = ("absolute", "absolute_range", "relative", "relative_range")


@TRANSFORMS.register_module()
class RandomCrop(BaseTransform):
    """Cut a random window out of the image; boxes that do not touch it go.

    Args:
        crop_size: by ``crop_type``: ``absolute``: (width, height) in pixels; ``absolute_range``: the smallest and the
            largest side, each side drawn by itself; ``relative``: (width, height) as parts of the image;
            ``relative_range``: the smallest parts of (height, width). Never larger than the image.
        crop_type: see there.
        allow_negative_crop: whether a window without a box will do; otherwise the data set tries another image.
        recompute_bbox: accepted for mmdetection's configs; it concerns masks, which there are none of.
        bbox_clip_border: whether boxes are cut at the window.

    Raises:
        ValueError: sizes that do not fit the type.
    """

    def __init__(
        self,
        crop_size: Sequence[float],
        crop_type: str = "absolute",
        allow_negative_crop: bool = False,
        recompute_bbox: bool = False,
        bbox_clip_border: bool = True,
    ) -> None:
        if crop_type not in CROP_TYPES:
            raise ValueError(f"RandomCrop: crop_type must be one of {CROP_TYPES}, but got {crop_type!r}")
        absolute = crop_type.startswith("absolute")
        fits = len(crop_size) == 2 and all(
            isinstance(side, int) and side > 0 if absolute else 0 < side <= 1 for side in crop_size
        )
        if not fits or (crop_type == "absolute_range" and crop_size[0] > crop_size[1]):
            wanted = {"absolute": "positive pixels", "absolute_range": "ascending positive pixels"}
            raise ValueError(
                f"RandomCrop: crop_size of crop_type={crop_type!r} must be two "
                f"{wanted.get(crop_type, 'parts in (0, 1]')}, but got {crop_size!r}"
            )
        self.crop_size = tuple(crop_size)
        self.crop_type = crop_type
        self.allow_negative_crop = allow_negative_crop
        self.recompute_bbox = recompute_bbox
        self.bbox_clip_border = bbox_clip_border

    def transform(self, results: dict) -> dict | None:
        """Cut ``img`` and the truth; None where no box is left and one is wanted."""
        height, width = results["img"].shape[:2]
        crop_height, crop_width = self._draw_size(height, width)
        top, left = self._draw_corner(height - crop_height, width - crop_width)
        results["img"] = results["img"][top : top + crop_height, left : left + crop_width]
        results["img_shape"] = (crop_height, crop_width)
        if results.get("gt_bboxes") is None:
            return results
        boxes = instances.shift(results["gt_bboxes"], -left, -top)
        if self.bbox_clip_border:
            boxes = instances.clip(boxes, crop_height, crop_width)
        touches = (boxes[:, :2] < (crop_width, crop_height)).all(1) & (boxes[:, 2:] > 0).all(1)
        if not touches.any() and not self.allow_negative_crop:
            return None
        results["gt_bboxes"] = boxes
        instances.select(results, touches)
        return results

    @cache_randomness
    def _draw_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width of the window, pixels."""
        first, second = self.crop_size
        if self.crop_type == "absolute":
            return min(second, height), min(first, width)
        if self.crop_type == "absolute_range":
            crop_height = np.random.randint(min(height, first), min(height, second) + 1)
            crop_width = np.random.randint(min(width, first), min(width, second) + 1)
            return crop_height, crop_width
        if self.crop_type == "relative":
            part_height, part_width = second, first
        else:
            smallest = np.array(self.crop_size, dtype=np.float32)
            part_height, part_width = smallest + np.random.rand(2) * (1 - smallest)
        return max(int(height * part_height + 0.5), 1), max(int(width * part_width + 0.5), 1)

    @cache_randomness
    def _draw_corner(self, free_height: int, free_width: int) -> tuple[int, int]:
        """Top and left of the window, pixels."""
        top = np.random.randint(0, free_height + 1)
        left = np.random.randint(0, free_width + 1)
        return top, left

    def __repr__(self) -> str:
        return (
            f"RandomCrop(crop_size={self.crop_size}, crop_type={self.crop_type!r}, "
            f"allow_negative_crop={self.allow_negative_crop}, bbox_clip_border={self.bbox_clip_border})"
        )


@TRANSFORMS.register_module()
class MinIoURandomCrop(BaseTransform):
    """SSD's crop (https://arxiv.org/abs/1512.02325, 2.2): a window that overlaps each box by a drawn IoU at least.

    Boxes whose centre is outside the window go. With probability ``1 / (len(min_ious) + 2)`` nothing is cut, with the
    same any window will do.

    Args:
        min_ious: the least IoUs to draw from.
        min_crop_size: least side of the window as part of the image's.
        bbox_clip_border: whether boxes are cut at the window.
    """

    TRIES = 50

    def __init__(
        self,
        min_ious: Sequence[float] = (0.1, 0.3, 0.5, 0.7, 0.9),
        min_crop_size: float = 0.3,
        bbox_clip_border: bool = True,
    ) -> None:
        self.min_ious = tuple(min_ious)
        self.min_crop_size = min_crop_size
        self.bbox_clip_border = bbox_clip_border

    def transform(self, results: dict) -> dict:
        """Cut ``img`` and the truth, or leave them."""
        boxes = results["gt_bboxes"]
        height, width = results["img"].shape[:2]
        while True:
            min_iou = self._draw_min_iou()
            if min_iou == 1:
                return results
            for _ in range(self.TRIES):
                window = self._draw_window(height, width)
                if window is not None and (keep := self._fits(window, boxes, min_iou)) is not None:
                    return self._cut(results, window, keep)

    def _cut(self, results: dict, window: np.ndarray, keep: np.ndarray) -> dict:
        left, top, right, bottom = window.tolist()
        results["img"] = results["img"][top:bottom, left:right]
        results["img_shape"] = results["img"].shape[:2]
        boxes = instances.shift(results["gt_bboxes"], -left, -top)
        if self.bbox_clip_border:
            boxes = instances.clip(boxes, *results["img_shape"])
        results["gt_bboxes"] = boxes
        instances.select(results, keep)
        return results

    @staticmethod
    def _fits(window: np.ndarray, boxes: np.ndarray, min_iou: float) -> np.ndarray | None:
        """(n,) bool, the boxes with their centre inside; None where the window will not do."""
        if not len(boxes):
            return np.zeros(0, dtype=bool)
        overlaps = pairwise_iou(torch.from_numpy(window[None].astype(np.float32)), torch.from_numpy(boxes))
        if overlaps.min() < min_iou:
            return None
        centers = (boxes[:, :2] + boxes[:, 2:]) / 2
        inside = ((centers > window[:2]) & (centers < window[2:])).all(1)
        return inside if inside.any() else None

    @cache_randomness
    def _draw_min_iou(self) -> float:
        return np.random.choice((1, *self.min_ious, 0))

    @cache_randomness
    def _draw_window(self, height: int, width: int) -> np.ndarray | None:
        """(4,) xyxy in whole pixels, or None where its form will not do."""
        crop_width = np.random.uniform(self.min_crop_size * width, width)
        crop_height = np.random.uniform(self.min_crop_size * height, height)
        if not 0.5 <= crop_height / crop_width <= 2:
            return None
        # between 1 and what is free: the bounds of mmdetection, kept so that the same seed gives the same window
        left = np.random.uniform(width - crop_width, 1.0)
        top = np.random.uniform(height - crop_height, 1.0)
        window = np.array([left, top, left + crop_width, top + crop_height]).astype(np.int64)
        return window if (window[2:] > window[:2]).all() else None

    def __repr__(self) -> str:
        return (
            f"MinIoURandomCrop(min_ious={self.min_ious}, min_crop_size={self.min_crop_size}, "
            f"bbox_clip_border={self.bbox_clip_border})"
        )


@TRANSFORMS.register_module()
class Expand(BaseTransform):
    """SSD's zooming out: the image somewhere on a larger canvas of one colour.

    Args:
        mean: the colour, RGB if ``to_rgb``.
        to_rgb: whether ``mean`` has the opposite order of the image's channels.
        ratio_range: smallest and largest size of the canvas as multiple of the image's.
        seg_ignore_label: accepted for mmdetection's configs; there are no segmentation maps.
        prob: probability to do anything.
    """

    def __init__(
        self,
        mean: Sequence[float] = (0, 0, 0),
        to_rgb: bool = True,
        ratio_range: Sequence[float] = (1, 4),
        seg_ignore_label: int | None = None,
        prob: float = 0.5,
    ) -> None:
        if len(ratio_range) != 2 or not 1 <= ratio_range[0] <= ratio_range[1]:
            raise ValueError(f"Expand: ratio_range must be (smallest, largest), at least 1, but got {ratio_range!r}")
        self.mean = tuple(mean)[::-1] if to_rgb else tuple(mean)
        self.to_rgb = to_rgb
        self.ratio_range = tuple(ratio_range)
        self.seg_ignore_label = seg_ignore_label
        self.prob = prob

    def transform(self, results: dict) -> dict:
        """Put ``img`` on the canvas and move the boxes with it."""
        if self._draw() > self.prob:
            return results
        image = results["img"]
        height, width, channels = image.shape
        ratio = self._draw_ratio()
        canvas = np.empty((int(height * ratio), int(width * ratio), channels), image.dtype)
        canvas[:] = np.array(self.mean).astype(image.dtype)
        left, top = self._draw_corner(ratio, height, width)
        canvas[top : top + height, left : left + width] = image
        results["img"] = canvas
        results["img_shape"] = canvas.shape[:2]
        if results.get("gt_bboxes") is not None:
            results["gt_bboxes"] = instances.shift(results["gt_bboxes"], left, top)
        return results

    @cache_randomness
    def _draw(self) -> float:
        return np.random.uniform(0, 1)

    @cache_randomness
    def _draw_ratio(self) -> float:
        return np.random.uniform(*self.ratio_range)

    @cache_randomness
    def _draw_corner(self, ratio: float, height: int, width: int) -> tuple[int, int]:
        left = int(np.random.uniform(0, width * ratio - width))
        top = int(np.random.uniform(0, height * ratio - height))
        return left, top

    def __repr__(self) -> str:
        return f"Expand(mean={self.mean}, ratio_range={self.ratio_range}, prob={self.prob})"
