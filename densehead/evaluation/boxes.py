"""Boxes of many images in a few arrays, and which of two such sets belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Boxes:
    """Boxes of many images, one after the other.

    Attributes:
        boxes: (n, 4) xyxy, pixels.
        labels: (n,) class indices.
        images: (n,) index of the image of each.
        scores: (n,) of detections; None for truth.
        ignored: (n,) bool of truth, True where finding the object is neither right nor wrong; None for detections.
    """

    boxes: np.ndarray
    labels: np.ndarray
    images: np.ndarray
    scores: np.ndarray | None = None
    ignored: np.ndarray | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, index: Any) -> Boxes:
        """Return those at (k,) indices, or of a mask (n,)."""
        scores, ignored = (None if one is None else one[index] for one in (self.scores, self.ignored))
        return Boxes(self.boxes[index], self.labels[index], self.images[index], scores, ignored)


def joined_truth(images: Sequence[Sequence[Mapping]], dtype: type = np.float32) -> Boxes:
    """Return the objects of all images.

    Args:
        images: of each image its objects: dicts of ``bbox`` (xyxy), ``bbox_label`` and perhaps ``ignore_flag``.
        dtype: of the boxes.
    """
    instances = [ann for anns in images for ann in anns]
    return Boxes(
        boxes=np.array([ann["bbox"] for ann in instances], dtype=dtype).reshape(-1, 4),
        labels=np.array([ann["bbox_label"] for ann in instances], dtype=np.int64),
        images=np.repeat(np.arange(len(images)), [len(anns) for anns in images]),
        ignored=np.array([ann.get("ignore_flag", 0) for ann in instances], dtype=bool),
    )


def joined_detections(images: Sequence[Mapping], dtype: type = np.float32) -> Boxes:
    """Return the detections of all images.

    Args:
        images: of each image ``bboxes`` (n, 4) xyxy, ``labels`` (n,) and ``scores`` (n,).
        dtype: of the boxes.
    """
    none = {"bboxes": np.zeros((0, 4)), "labels": np.zeros(0), "scores": np.zeros(0)}
    joined = {key: np.concatenate([none[key], *(image[key] for image in images)]) for key in none}
    return Boxes(
        boxes=joined["bboxes"].astype(dtype),
        labels=joined["labels"].astype(np.int64),
        images=np.repeat(np.arange(len(images)), [len(image["labels"]) for image in images]),
        scores=joined["scores"],
    )


def pairs_of_groups(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs of one of ``first`` (n,) and one of ``second`` (m,) that are of the same group.

    Args:
        first: number of the group of each.
        second: likewise.

    Returns:
        Indices into ``first``, in order, and into ``second``, of one partner after the other in order.
    """
    order = np.argsort(second, kind="stable")
    start, stop = (np.searchsorted(second[order], first, side=side) for side in ("left", "right"))
    count = stop - start
    index = np.repeat(np.arange(len(first)), count)
    return index, order[np.arange(len(index)) + np.repeat(start - (np.cumsum(count) - count), count)]
