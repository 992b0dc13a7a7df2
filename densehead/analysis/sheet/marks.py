"""What a panel of a sheet shows of an assignment: where its marks are, how large, in which colour and how opaque."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from densehead.analysis.records import AssignmentRecord
from densehead.visualization.palette import Color

FAINTEST = 0.3  # opacity of a point without any weight
FILLED, FULLEST = 0.6, 0.9  # of the finest cells' side is the diameter of their points, as it is and at most
GROWTH = (
    0.6  # the diameter grows with this power of the stride: coarse levels stand out, and leave their object visible
)


@dataclass(frozen=True)
class PanelMarks:
    """The marks of a panel, in pixels of the image; the first are drawn first.

    Attributes:
        centers: (n, 2) of the positives' points.
        diameters: (n,) by the stride of their level.
        cells: (n,) stride of their level.
        colors: (n, 4) RGBA in [0, 1]: of their object, as opaque as their weight says.
        prior_index: (n,) which priors they are.
        hollow_centers: (m, 2) of the ignored points.
        hollow_diameters: (m,).
    """

    centers: np.ndarray
    diameters: np.ndarray
    cells: np.ndarray
    colors: np.ndarray
    prior_index: np.ndarray
    hollow_centers: np.ndarray
    hollow_diameters: np.ndarray


def panel_marks(
    record: AssignmentRecord,
    colors: Sequence[Color],
    *,
    level: int | None = None,
    full_weight: float = 1.0,
    smallest: float = 0.0,
) -> PanelMarks:
    """Return the marks of one level of an image, or of all.

    Points of coarse levels are drawn before those of fine ones, and faint before opaque ones, so that none hides
    another. Where priors of one level share a point (several anchors), they lie around it.

    Args:
        record: what was assigned.
        colors: of its objects.
        level: index of the level; all if None.
        full_weight: weight from which on a point is opaque.
        smallest: see :func:`diameters`.
    """
    wanted = np.ones(len(record.prior_index), bool) if level is None else _levels(record) == level
    prior, truth, weight = record.prior_index[wanted], record.gt_index[wanted], record.weight[wanted]
    cells = record.strides[record.level_index[prior]].astype(np.float64)
    order = np.lexsort((prior, weight, -cells))
    prior, truth, weight, cells = prior[order], truth[order], weight[order], cells[order]
    opacity = FAINTEST + (1 - FAINTEST) * np.clip(weight / full_weight, 0, 1)
    rgb = np.asarray(colors, dtype=np.float64).reshape(-1, 3)[truth] / 255
    hollow = record.ignored_index
    if level is not None:
        hollow = hollow[record.level_index[hollow] == level]
    sizes = diameters(record.strides, smallest)
    return PanelMarks(
        centers=spread(record, prior),
        diameters=sizes[record.level_index[prior]],
        cells=cells,
        colors=np.concatenate([rgb, opacity[:, None]], 1),
        prior_index=prior,
        hollow_centers=spread(record, hollow),
        hollow_diameters=sizes[record.level_index[hollow]],
    )


def diameters(strides: np.ndarray, smallest: float = 0.0) -> np.ndarray:
    """Return the diameter of the points of each level, in pixels of the image.

    ``smallest`` is that of the finest level at least, as far as its cells have room for it.
    """
    strides = np.asarray(strides, dtype=np.float64)
    finest = np.clip(smallest, FILLED * strides.min(), FULLEST * strides.min())
    return finest * (strides / strides.min()) ** GROWTH


def spread(record: AssignmentRecord, prior: np.ndarray) -> np.ndarray:
    """Return (n, 2) where priors are drawn: at their points, or on a circle around it where several share it."""
    points = record.points[prior].astype(np.float64)
    place = np.column_stack([record.level_index, record.points])
    same_as_before = (place[1:] == place[:-1]).all(1)
    if not same_as_before.any():
        return points
    starts = np.flatnonzero(np.r_[True, ~same_as_before])
    number = np.arange(len(place)) - np.repeat(starts, np.diff(np.r_[starts, len(place)]))
    share = np.diff(np.r_[starts, len(place)])[np.searchsorted(starts, prior, side="right") - 1]
    angle = 2 * np.pi * number[prior] / share
    radius = np.where(share > 1, record.strides[record.level_index[prior]] / 4, 0.0)
    return points + radius[:, None] * np.column_stack([np.cos(angle), np.sin(angle)])


def _levels(record: AssignmentRecord) -> np.ndarray:
    return record.level_index[record.prior_index]
