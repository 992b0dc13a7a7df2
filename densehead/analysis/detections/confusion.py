"""Which classes are taken for which others, and for background."""

from __future__ import annotations

import numpy as np

from densehead.analysis.detections.matching import match
from densehead.analysis.detections.overlaps import Overlaps
from densehead.evaluation.boxes import Boxes

TAKEN, BACKGROUND = range(2)  # rows after those of the classes
ROW_NAMES = ("found already", "background")
COLUMN_NAME = "not found"


def confusion_matrix(
    detections: Boxes, truth: Boxes, overlaps: Overlaps, *, num_classes: int, iou_thr: float, score_thr: float
) -> np.ndarray:
    """Return (C + 2, C + 1) counts: rows are true classes, columns detected ones.

    Whatever its class, each detection, the best score first, finds the object that it overlaps most among those left;
    see :func:`~densehead.analysis.detections.matching.match`. The last column holds objects that are not found. The
    last two rows hold detections that find none: where a better scored one has found the object, and where none is.
    Ignored objects, and detections on those of their class, do not count.

    Args:
        detections: with scores.
        truth: with what is ignored.
        overlaps: their pairs.
        num_classes: ``C``.
        iou_thr: smallest IoU of a pair.
        score_thr: detections of a lower score do not take part.
    """
    is_kept = detections.scores >= score_thr
    pairs = overlaps.take(is_kept[overlaps.det] & (overlaps.iou >= iou_thr))
    matches = match(detections, truth, pairs, iou_thr=iou_thr, any_class=True)
    found = np.flatnonzero(matches.is_right)
    lone = np.flatnonzero(matches.is_wrong & is_kept)
    missed = (matches.det_of_gt < 0) & ~truth.ignored
    is_on_object = np.isin(lone, pairs.det[~pairs.is_ignored])
    rows = (
        truth.labels[matches.gt_of_det[found]],
        num_classes + np.where(is_on_object, TAKEN, BACKGROUND),
        truth.labels[missed],
    )
    columns = detections.labels[found], detections.labels[lone], np.full(missed.sum(), num_classes)
    place = np.concatenate(rows) * (num_classes + 1) + np.concatenate(columns)
    shape = num_classes + 2, num_classes + 1
    return np.bincount(place, minlength=shape[0] * shape[1]).reshape(shape)


def most_confused(matrix: np.ndarray, count: int) -> list[tuple[int, int, int]]:
    """Return the most frequent confusions of two classes: true class, detected class, how often.

    Args:
        matrix: (C + 2, C + 1), of :func:`confusion_matrix`.
        count: how many at most.
    """
    wrong = matrix[:-2, :-1] * ~np.eye(len(matrix) - 2, dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(int(row), int(column), int(wrong[row, column])) for row, column in pairs if wrong[row, column]]
