"""Which classes are taken for which others, and for background."""

from __future__ import annotations

import numpy as np

from densehead.analysis.detections.matching import match
from densehead.analysis.detections.overlaps import Overlaps
from densehead.evaluation.boxes import Boxes


def confusion_matrix(
    detections: Boxes, truth: Boxes, overlaps: Overlaps, *, num_classes: int, iou_thr: float, score_thr: float
) -> np.ndarray:
    """Return (C + 1, C + 1) counts: rows are true classes, columns detected ones, the last of each is background.

    Whatever its class, each detection, the best score first, finds the object that it overlaps most among those left;
    see :func:`~densehead.analysis.detections.matching.match`. The last row holds detections that find none, the last
    column objects that are not found. Ignored objects, and detections on those of their class, do not count.

    Args:
        detections: with scores.
        truth: with what is ignored.
        overlaps: their pairs.
        num_classes: ``C``.
        iou_thr: smallest IoU of a pair.
        score_thr: detections of a lower score do not take part.
    """
    matches = match(
        detections, truth, _of_kept(overlaps, detections.scores >= score_thr), iou_thr=iou_thr, any_class=True
    )
    found = np.flatnonzero(matches.is_right)
    lone = matches.is_wrong & (detections.scores >= score_thr)
    missed = (matches.det_of_gt < 0) & ~truth.ignored
    rows = [truth.labels[matches.gt_of_det[found]], np.full(lone.sum(), num_classes), truth.labels[missed]]
    columns = [detections.labels[found], detections.labels[lone], np.full(missed.sum(), num_classes)]
    place = np.concatenate(rows) * (num_classes + 1) + np.concatenate(columns)
    return np.bincount(place, minlength=(num_classes + 1) ** 2).reshape(num_classes + 1, num_classes + 1)


def most_confused(matrix: np.ndarray, count: int) -> list[tuple[int, int, int]]:
    """Return the most frequent confusions of two classes: true class, detected class, how often.

    Args:
        matrix: (C + 1, C + 1), of :func:`confusion_matrix`.
        count: how many at most.
    """
    wrong = matrix[:-1, :-1] * ~np.eye(len(matrix) - 1, dtype=bool)
    order = np.argsort(-wrong, axis=None, kind="stable")[:count]
    pairs = zip(*np.unravel_index(order, wrong.shape), strict=True)
    return [(int(row), int(column), int(wrong[row, column])) for row, column in pairs if wrong[row, column]]


def _of_kept(overlaps: Overlaps, is_kept: np.ndarray) -> Overlaps:
    return overlaps.take(is_kept[overlaps.det])
