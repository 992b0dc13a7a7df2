"""Colours of objects on one picture, where those that are near each other must differ."""

from __future__ import annotations

import numpy as np

from densehead.visualization.palette import PALETTE, Color

#: Colours of :data:`PALETTE` that stay apart when they are half transparent: without brown, which yellow fades to.
OBJECT_COLORS: tuple[Color, ...] = tuple(PALETTE[index] for index in (0, 1, 2, 3, 4, 5, 6, 7, 9, 10, 11))
REACH = 0.1  # of the extent of all boxes: how far apart boxes still count as neighbours
OVERLAP = 4.0  # how much worse it is for overlapping boxes to have one colour than for touching ones


def object_colors(boxes: np.ndarray) -> list[Color]:
    """Choose a colour for each object so that neighbours, and above all overlapping objects, differ.

    As long as there are no more objects than :data:`OBJECT_COLORS`, each has its own. Beyond, a greedy colouring of
    the graph of neighbours: the objects with the nearest neighbours first, each in the colour whose holders are
    farthest from it.

    Args:
        boxes: (n, 4) xyxy.
    """
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    nearness = _nearness(boxes)
    taken = np.zeros((len(OBJECT_COLORS), len(boxes)))  # how near an object is to those that have a colour
    chosen = np.zeros(len(boxes), dtype=np.int64)
    for index in np.argsort(-nearness.sum(1), kind="stable"):
        chosen[index] = taken[:, index].argmin()
        taken[chosen[index]] += nearness[index]
    return [OBJECT_COLORS[color] for color in chosen]


def _nearness(boxes: np.ndarray) -> np.ndarray:
    """Return (n, n): 1 for boxes that touch, less for those apart, more for those that overlap."""
    low, high = boxes[:, :2], boxes[:, 2:]
    shared = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)  # (n, n, 2), negative where apart
    gap = np.hypot(*np.moveaxis(np.maximum(-shared, 0), 2, 0))
    area = np.maximum((high - low).prod(1), 1e-9)
    overlap = np.maximum(shared, 0).prod(2) / np.minimum(area[:, None], area)
    reach = REACH * max((high.max(0) - low.min(0)).max(), 1e-9) if len(boxes) else 1.0
    return np.exp(-gap / reach) + OVERLAP * overlap
