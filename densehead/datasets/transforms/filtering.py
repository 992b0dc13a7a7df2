"""Leaving out truth."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.transforms import BaseTransform

from densehead.datasets.transforms import instances
from densehead.registry import TRANSFORMS


@TRANSFORMS.register_module()
class FilterAnnotations(BaseTransform):
    """Leave out boxes that became too small.

    Args:
        min_gt_bbox_wh: a box must be wider and higher than this (pixels of the current image).
        by_box: must be True.
        by_mask, min_gt_mask_area: accepted for mmdetection's configs; there are no masks.
        keep_empty: as in mmdetection, True makes the data set take another image where no box is left.

    Raises:
        ValueError: filtering by masks only.
    """

    def __init__(
        self,
        min_gt_bbox_wh: Sequence[float] = (1, 1),
        min_gt_mask_area: int = 1,
        by_box: bool = True,
        by_mask: bool = False,
        keep_empty: bool = True,
    ) -> None:
        if not by_box or by_mask:
            raise ValueError("FilterAnnotations: there are no masks here; use by_box=True, by_mask=False")
        self.min_gt_bbox_wh = tuple(min_gt_bbox_wh)
        self.min_gt_mask_area = min_gt_mask_area
        self.keep_empty = keep_empty

    def transform(self, results: dict) -> dict | None:
        """Filter the truth; None where none is left of some, and ``keep_empty``."""
        boxes = results["gt_bboxes"]
        if not len(boxes):
            return results
        keep = (boxes[:, 2:] - boxes[:, :2] > self.min_gt_bbox_wh).all(1)
        if not keep.any() and self.keep_empty:
            return None
        instances.select(results, keep)
        return results

    def __repr__(self) -> str:
        return f"FilterAnnotations(min_gt_bbox_wh={self.min_gt_bbox_wh}, keep_empty={self.keep_empty})"
