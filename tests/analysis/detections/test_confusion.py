from __future__ import annotations

import numpy as np
import pytest

from densehead.analysis.detections.confusion import confusion_matrix, most_confused
from densehead.analysis.detections.overlaps import find_overlaps
from tests.analysis.detections.scenes import found, naive_iou, naive_match, random_boxes, truth_of

FAR, CLOSE, NEXT = [0, 0, 10, 10], [100, 0, 110, 10], [101, 0, 111, 10]


def matrix_of(truth, detections, num_classes=2, score_thr=0.0):
    overlaps = find_overlaps(detections, truth)
    return confusion_matrix(
        detections, truth, overlaps, num_classes=num_classes, iou_thr=0.5, score_thr=score_thr
    ).tolist()


def test_by_hand():
    """Rows: class 0, class 1, found already, background; columns: class 0, class 1, not found."""
    truth = truth_of((FAR, 0), (CLOSE, 1), ([200, 0, 210, 10], 0))
    detections = found(
        (FAR, 1, 0.9),  # takes the first object for class 1
        (FAR, 0, 0.8),  # which is found by then
        (NEXT, 1, 0.7),
        ([50, 50, 60, 60], 0, 0.6),
    )
    assert matrix_of(truth, detections) == [[0, 1, 1], [0, 1, 0], [1, 0, 0], [1, 0, 0]]
    assert matrix_of(truth, detections, score_thr=0.7) == [[0, 1, 1], [0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert matrix_of(truth, detections, score_thr=0.95) == [[0, 0, 2], [0, 0, 1], [0, 0, 0], [0, 0, 0]]


def test_ignored_objects_do_not_count():
    truth = truth_of((FAR, 0, 0, True))
    assert matrix_of(truth, found((FAR, 0, 0.9))) == [[0, 0, 0]] * 4
    assert matrix_of(truth, found((FAR, 1, 0.9)))[3] == [0, 1, 0]


@pytest.mark.parametrize("seed", range(4))
def test_equals_one_after_the_other(seed):
    truth, detections, *_ = random_boxes(seed)
    kept = detections.take(detections.scores >= 0.3)
    matched = naive_match(kept, truth, 0.5, any_class=True)
    want = np.zeros((7, 6), dtype=int)
    for det, gt in enumerate(matched):
        if gt >= 0:
            want[truth.labels[gt], kept.labels[det]] += 1
        elif gt == -1:
            others = np.flatnonzero((truth.images == kept.images[det]) & ~truth.ignored)
            lies_on = any(naive_iou(kept.boxes[det], truth.boxes[other]) >= 0.5 for other in others)
            want[5 if lies_on else 6, kept.labels[det]] += 1
    for gt in np.flatnonzero(~truth.ignored):
        want[truth.labels[gt], 5] += gt not in matched
    assert matrix_of(truth, detections, 5, 0.3) == want.tolist()
    assert (want > 0).any(1).sum() >= 5


def test_most_confused_names_pairs():
    matrix = np.array([[5, 2, 9], [3, 5, 0], [7, 7, 0], [8, 0, 0]])
    assert most_confused(matrix, 5) == [(1, 0, 3), (0, 1, 2)]
    assert most_confused(matrix, 1) == [(1, 0, 3)]
