from __future__ import annotations

import numpy as np

from densehead.analysis.detections.images import ImageScores, score_images
from densehead.analysis.detections.matching import match
from densehead.analysis.detections.overlaps import find_overlaps
from tests.analysis.detections.scenes import found, random_boxes, truth_of
from tests.analysis.detections.test_errors import at


def test_counts_by_hand():
    """Image 0: one right, one wrong, one missed. 1: nothing. 2: an ignored object, found. 3: found below the score."""
    truth = truth_of((at(0), 0, 0), (at(40), 0, 0), (at(0), 0, 2, True), (at(0), 0, 3))
    detections = found((at(0), 0, 0.9, 0), (at(90), 0, 0.8, 0), (at(0), 0, 0.9, 2), (at(0), 0, 0.1, 3))
    matches = match(detections, truth, find_overlaps(detections, truth), iou_thr=0.5)
    got = score_images(detections, truth, matches, num_images=4, score_thr=0.5)
    assert got.right.tolist() == [1, 0, 0, 0]
    assert got.wrong.tolist() == [1, 0, 0, 0]
    assert got.missed.tolist() == [1, 0, 0, 1]
    np.testing.assert_equal(got.f1, [0.5, np.nan, np.nan, 0])


def test_leaving_out_low_scores_is_matching_again():
    truth, detections, *_ = random_boxes(1)
    matches = match(detections, truth, find_overlaps(detections, truth), iou_thr=0.5)
    got = score_images(detections, truth, matches, num_images=25, score_thr=0.4)
    kept = detections.take(detections.scores >= 0.4)
    again = match(kept, truth, find_overlaps(kept, truth), iou_thr=0.5)
    want = score_images(kept, truth, again, num_images=25, score_thr=0)
    for name in ("right", "wrong", "missed"):
        assert getattr(got, name).tolist() == getattr(want, name).tolist()


def test_best_and_worst():
    scores = ImageScores(*(np.array(row) for row in ([2, 0, 0, 3, 0, 1], [0, 1, 2, 0, 0, 1], [0, 1, 1, 0, 0, 0])))
    assert scores.worst(9).tolist() == [2, 1, 5]  # of F1 0 the one with more errors first; perfect and empty ones never
    assert scores.best(2).tolist() == [3, 0]
    assert scores.best(9).tolist() == [3, 0, 5]
