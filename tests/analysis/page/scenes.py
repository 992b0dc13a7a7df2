"""Scenes by hand: a grid of points a level, and rules that are plain to see."""

from __future__ import annotations

import numpy as np

from densehead.analysis import AssignmentRecord
from densehead.analysis.scenes import Scene

WIDTH, HEIGHT, STRIDES = 320, 240, (8, 16, 32)
TITLES = ["AllHead", "FineHead", "CoarseHead"]
HOSTILE = "</script><img src=x onerror=\"document.title='taken'\">&amp;<!--\u2028'\"`${1}"
NAMES = ("cat", HOSTILE, "a class with a name that is too long to stand anywhere", "dog")
#: Large, small, overlapping, and two between the points of all levels, which no rule below gives a point.
BOXES = np.array(
    [
        [20, 30, 180, 200],
        [100, 90, 300, 230],
        [210, 20, 260, 60],
        [40, 205, 64, 229],
        [4.5, 4.5, 7.5, 7.5],
        [301, 5, 306, 10],
    ],
    dtype=np.float64,
)
LABELS = np.array([0, 1, 2, 3, 0, 1])


def points_of(width: int = WIDTH, height: int = HEIGHT) -> tuple[np.ndarray, np.ndarray]:
    """Return the centres of all cells (P, 2), and the level of each (P,)."""
    points, levels = [], []
    for level, stride in enumerate(STRIDES):
        y, x = np.mgrid[stride / 2 : height : stride, stride / 2 : width : stride]
        points.append(np.stack([x.ravel(), y.ravel()], 1))
        levels.append(np.full(x.size, level))
    return np.concatenate(points), np.concatenate(levels)


def make_record(
    boxes=BOXES, labels=LABELS, *, levels=(0, 1, 2), ignored: int = 0, name: str = "centre-ness", size=(WIDTH, HEIGHT)
) -> AssignmentRecord:
    """The points of some levels inside a box answer for the smallest one that they are in; weights fall to its edge."""
    points, level = points_of(*size)
    x, y = points.T[..., None]
    gap = np.minimum(  # (P, G), to the nearest side
        np.minimum(x - boxes[:, 0], boxes[:, 2] - x), np.minimum(y - boxes[:, 1], boxes[:, 3] - y)
    )
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    is_in = (gap > 0) & np.isin(level, levels)[:, None]
    prior = np.flatnonzero(is_in.any(1))
    owner = np.where(is_in, area, np.inf)[prior].argmin(1)
    half = (boxes[:, 2:] - boxes[:, :2]).min(1) / 2
    free = np.flatnonzero(~is_in.any(1))
    return AssignmentRecord(
        boxes=boxes,
        labels=labels,
        points=points,
        level_index=level,
        strides=np.array(STRIDES),
        prior_index=prior,
        gt_index=owner,
        weight=np.clip(gap[prior, owner] / half[owner], 0, 1),
        weight_name=name,
        ignored_index=np.sort(np.random.default_rng(0).choice(free, min(ignored, len(free)), replace=False)),
    )


def make_image(seed: int = 0, size=(WIDTH, HEIGHT)) -> np.ndarray:
    """Grey stripes: no colour of an object is in it."""
    width, height = size
    grey = 110 + 30 * np.sin(np.arange(width) / (5 + seed))[None] + np.zeros((height, 1))
    return np.repeat(grey.astype(np.uint8)[..., None], 3, 2)


def make_scene(number: int = 0, **changes) -> Scene:
    """A scene of three rules: points of all levels, of the finest, and of the coarsest with ignored points."""
    records = {
        "AllHead": make_record(),
        "FineHead": make_record(levels=(0,), name="IoU"),
        "CoarseHead": make_record(levels=(2,), ignored=200),
    }
    scene = dict(image=make_image(number), name=f"image {number} {HOSTILE}.jpg", class_names=NAMES, records=records)
    return Scene(**scene | changes)


def empty_scene(number: int) -> Scene:
    """The same without an object."""
    points, level = points_of()
    none = np.zeros(0, int)
    nothing = AssignmentRecord(
        np.zeros((0, 4)), none, points, level, np.array(STRIDES), none, none, np.zeros(0), "centre-ness", none
    )
    return make_scene(number, records=dict.fromkeys(TITLES, nothing))
