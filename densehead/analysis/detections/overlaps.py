"""Which detections overlap which objects: the pairs of an image that share some area, and no others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from densehead.evaluation.boxes import Boxes, pairs_of_groups
from densehead.ops import aligned_iou

PAIRS = 1 << 20  # whose IoU is computed together


@dataclass(frozen=True)
class Overlaps:
    """Pairs of a detection and an object of the same image, detection by detection.

    Attributes:
        det, gt: (n,) indices of the detection and of the object.
        iou: (n,) their IoU; with an ignored object the share of the detection that lies on it, as COCO has it.
        is_same_class: (n,) bool.
        is_ignored: (n,) bool, whether the object is ignored.
    """

    det: np.ndarray
    gt: np.ndarray
    iou: np.ndarray
    is_same_class: np.ndarray
    is_ignored: np.ndarray

    def take(self, index: Any) -> Overlaps:
        """Return those at (k,) indices, or of a mask (n,)."""
        return Overlaps(*(one[index] for one in vars(self).values()))


def find_overlaps(detections: Boxes, truth: Boxes, *, least: float = 0.1) -> Overlaps:
    """Return the pairs of an image whose IoU is at least ``least``, whatever their classes.

    Ignored objects are paired with detections of their own class only: what stands on one and is of another class is
    as wrong as elsewhere.

    Args:
        detections: with scores.
        truth: with what is ignored.
        least: smallest IoU, above 0.
    """
    found = [_overlaps_of(detections, truth, start, stop, least) for start, stop in _portions(detections.images, truth)]
    columns = zip(*(vars(one).values() for one in found), strict=True)
    return Overlaps(*(np.concatenate(column) for column in columns))


def _portions(images: np.ndarray, truth: Boxes) -> Iterator[tuple[int, int]]:
    """Bounds of runs of detections that have about :data:`PAIRS` pairs each; one run at least."""
    counts = np.bincount(truth.images, minlength=int(images.max(initial=-1)) + 1)[images]
    number = np.cumsum(counts) // PAIRS
    bounds = [0, *(np.flatnonzero(np.diff(number)) + 1).tolist(), len(images)]
    return pairwise(bounds)


def _overlaps_of(detections: Boxes, truth: Boxes, start: int, stop: int, least: float) -> Overlaps:
    det, gt = pairs_of_groups(detections.images[start:stop], truth.images)
    det += start
    is_same_class = detections.labels[det] == truth.labels[gt]
    counts = is_same_class | ~truth.ignored[gt]
    det, gt, is_same_class = det[counts], gt[counts], is_same_class[counts]
    pairs = torch.from_numpy(detections.boxes[det]), torch.from_numpy(truth.boxes[gt])
    is_ignored = truth.ignored[gt]
    iou = aligned_iou(*pairs).numpy()
    iou[is_ignored] = aligned_iou(*(one[torch.from_numpy(is_ignored)] for one in pairs), mode="iof").numpy()
    return Overlaps(det, gt, iou, is_same_class, is_ignored).take(iou >= least)
