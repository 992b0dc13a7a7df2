from __future__ import annotations

import numpy as np


def make(height=60, width=80, count=6, seed=0):
    """Results as they come from loading: a random image, and boxes inside it of which the last is to be ignored."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 0.8, (count, 2)) * (width, height)
    sides = rng.uniform(3, 40, (count, 2))
    boxes = np.concatenate([corners, np.minimum(corners + sides, (width, height))], 1).astype(np.float32)
    return {
        "img": rng.integers(0, 256, (height, width, 3), dtype=np.uint8),
        "img_shape": (height, width),
        "ori_shape": (height, width),
        "gt_bboxes": boxes,
        "gt_bboxes_labels": np.arange(count, dtype=np.int64),
        "gt_ignore_flags": np.arange(count) == count - 1,
    }


def check(results):
    """Assert what every transform must leave: types, as many of each, the image's shape."""
    count = len(results["gt_bboxes"])
    assert results["gt_bboxes"].dtype == np.float32
    assert results["gt_bboxes"].shape == (count, 4)
    assert results["gt_bboxes_labels"].dtype == np.int64
    assert results["gt_bboxes_labels"].shape == (count,)
    assert results["gt_ignore_flags"].dtype == bool
    assert results["gt_ignore_flags"].shape == (count,)
    assert tuple(results["img_shape"]) == results["img"].shape[:2]


def assert_inside(results):
    """Assert that the boxes are inside the image and have an extent."""
    height, width = results["img"].shape[:2]
    boxes = results["gt_bboxes"]
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, 2:] <= (width, height)).all()
    assert (boxes[:, 2:] > boxes[:, :2]).all()
