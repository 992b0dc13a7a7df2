"""Where labels go: beside their box, off the objects and off each other as far as there is room."""

from __future__ import annotations

import numpy as np

ON_LABEL, ON_OWN_OBJECT, ON_OTHER_OBJECT, MOVED = 6.0, 1.0, 0.8, 0.5
HIDDEN_LABEL, HIDDEN_OBJECT = 0.1, 0.2  # shares that may be covered


def place_labels(boxes: np.ndarray, sizes: np.ndarray, canvas: tuple[int, int]) -> np.ndarray:
    """Choose a place for the label of each box, the first boxes first.

    Every label has twelve candidates around and inside its box, moved into the canvas. The cheapest is taken, by the
    part of the label that lies on labels already placed and on objects, and by how far it was moved; above the left
    corner is preferred.

    Args:
        boxes: (n, 4) xyxy, pixels.
        sizes: (n, 2) width and height of the labels, pixels.
        canvas: width and height of the picture.

    Returns:
        (n, 4) xyxy of the labels, inside the canvas where they fit into it at all.
    """
    candidates, moved = _candidates(boxes, sizes, canvas)  # (n, K, 4), (n, K)
    count, places = moved.shape
    area = np.maximum(sizes.prod(1), 1)[:, None]
    # what fills the picture cannot be kept free of labels
    smallness = np.clip(1 - 4 * (boxes[:, 2:] - boxes[:, :2]).prod(1) / max(canvas[0] * canvas[1], 1), 0, 1)
    on_objects = _overlap(candidates.reshape(-1, 4), boxes).reshape(count, places, count) * smallness
    on_own = on_objects[np.arange(count), :, np.arange(count)]
    on_others = np.minimum(on_objects.sum(2) - on_own, 2 * area)
    cost = (ON_OWN_OBJECT * on_own + ON_OTHER_OBJECT * on_others) / area + MOVED * moved + 0.02 * np.arange(places)
    placed = np.zeros((count, 4))
    for index in range(count):
        on_labels = _overlap(candidates[index], placed[:index]).sum(1) / area[index]
        placed[index] = candidates[index, np.argmin(cost[index] + ON_LABEL * on_labels)]
    return placed


def are_free(places: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """Tell which labels hide nothing: no label before them that is free itself, and no fifth of an object.

    Args:
        places: (n, 4) xyxy of the labels.
        boxes: (m, 4) xyxy of the objects.

    Returns:
        (n,) bool.
    """
    areas = [np.maximum((one[:, 2:] - one[:, :2]).prod(1), 1e-9) for one in (places, boxes)]
    is_free = ((_overlap(places, boxes) / areas[1]).max(1, initial=0) <= HIDDEN_OBJECT).astype(bool)
    on_labels = _overlap(places, places) / areas[0][:, None]
    for index in range(len(places)):
        is_free[index] &= (on_labels[index, :index][is_free[:index]] <= HIDDEN_LABEL).all()
    return is_free


def _candidates(boxes: np.ndarray, sizes: np.ndarray, canvas: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Places above, below, beside and inside the boxes, the preferred first.

    Returns:
        (n, K, 4) xyxy inside the canvas, and (n, K) how far each had to be moved for that, in label sizes.
    """
    left, top, right, bottom = boxes.T
    width, height = sizes.T
    corners = [
        (left, top - height),
        (right - width, top - height),
        (left, bottom),
        (right - width, bottom),
        (right, top),
        (left - width, top),
        (right, bottom - height),
        (left - width, bottom - height),
        (left, top),
        (right - width, top),
        (left, bottom - height),
        (right - width, bottom - height),
    ]
    wanted = np.stack([np.stack(corner, 1) for corner in corners], 1)
    start = np.clip(wanted, 0, np.maximum(np.array(canvas) - sizes, 0)[:, None])
    moved = (np.abs(start - wanted) / np.maximum(sizes, 1)[:, None]).sum(2)
    return np.concatenate([start, start + sizes[:, None]], 2), moved


def _overlap(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """Return (n, m): shared pixels."""
    low = np.maximum(boxes1[:, None, :2], boxes2[None, :, :2])
    high = np.minimum(boxes1[:, None, 2:], boxes2[None, :, 2:])
    return np.maximum(high - low, 0).prod(2)
