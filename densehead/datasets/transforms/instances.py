"""What the transforms do to the truth beside the image."""

from __future__ import annotations

import numpy as np

#: Keys of the results that hold one entry for each box.
PER_BOX = ("gt_bboxes", "gt_bboxes_labels", "gt_ignore_flags")


def select(results: dict, keep: np.ndarray) -> None:
    """Keep the truth where ``keep`` (n,) is True."""
    for key in PER_BOX:
        if results.get(key) is not None:
            results[key] = results[key][keep]


def clip(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Return boxes (n, 4) cut at the borders of an image."""
    return np.clip(boxes, 0, np.array([width, height, width, height], dtype=np.float32))


def shift(boxes: np.ndarray, x: int, y: int) -> np.ndarray:
    """Return boxes (n, 4) moved by ``x``, ``y`` pixels."""
    return boxes + np.array([x, y, x, y], dtype=np.float32)
