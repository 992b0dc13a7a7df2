from __future__ import annotations

import numpy as np
import pytest

from densehead.analysis.detections.curves import (
    RECALLS,
    SCORES,
    ClassCurve,
    best_mean_threshold,
    class_curves,
    count_truth,
    mean_at_scores,
    mean_average_precision,
)
from densehead.analysis.detections.matching import match
from densehead.analysis.detections.overlaps import find_overlaps
from tests.analysis.detections.scenes import CLASSES, random_boxes
from tests.evaluation.test_coco_api import pycocotools_evaluation


def curves_of(truth, detections, iou_thr):
    matches = match(detections, truth, find_overlaps(detections, truth), iou_thr=iou_thr)
    kept = ~matches.is_ignored
    columns = (detections.scores[kept], detections.labels[kept], matches.is_right[kept])
    return class_curves(*columns, count_truth(truth, len(CLASSES)))


@pytest.mark.parametrize("seed", range(6))
def test_curves_are_those_of_pycocotools(seed):
    truth, detections, coco_truth, coco_detections = random_boxes(seed)
    want = pycocotools_evaluation(coco_truth, coco_detections)
    for threshold, iou_thr in ((0, 0.5), (5, 0.75), (8, 0.9)):
        curves = curves_of(truth, detections, iou_thr)
        for label, curve in enumerate(curves):
            precision = want.eval["precision"][threshold, :, label, 0, -1]
            if not curve.num_gts:
                assert (precision == -1).all()
                assert np.isnan(curve.average_precision)
                continue
            np.testing.assert_allclose(curve.precision_at_recalls, precision, rtol=0, atol=1e-9)
            recall = want.eval["recall"][threshold, label, 0, -1]
            assert curve.recall.max(initial=0) == pytest.approx(recall)
        precision = want.eval["precision"][threshold, :, :, 0, -1]
        assert mean_average_precision(curves) == pytest.approx(precision[precision > -1].mean(), abs=1e-9)


def by_hand():
    """Three objects; right, wrong, then of two equal scores one right and one wrong, right."""
    return ClassCurve(np.array([0.9, 0.8, 0.6, 0.6, 0.2]), np.array([1, 0, 1, 0, 1], dtype=bool), 3)


def test_figures_by_hand():
    curve = by_hand()
    np.testing.assert_allclose(curve.precision, [1, 1 / 2, 2 / 3, 1 / 2, 3 / 5])
    np.testing.assert_allclose(curve.recall, [1 / 3, 1 / 3, 2 / 3, 2 / 3, 1])
    # recalls 0 to 0.33 are reached with precision 1, to 0.66 with 2 / 3, to 1 with 3 / 5
    assert curve.average_precision == pytest.approx((34 * 1 + 33 * 2 / 3 + 34 * 3 / 5) / 101)
    precision, recall, f1 = curve.at_scores([0, 0.2, 0.6, 0.61, 0.95])
    np.testing.assert_allclose(precision, [3 / 5, 3 / 5, 1 / 2, 1 / 2, np.nan])
    np.testing.assert_allclose(recall, [1, 1, 2 / 3, 1 / 3, 0])
    np.testing.assert_allclose(f1, [6 / 8, 6 / 8, 4 / 7, 2 / 5, 0])


def test_best_threshold_lies_between_two_scores():
    assert by_hand().best_threshold() == 0  # all are kept
    worse = ClassCurve(np.array([0.9, 0.6, 0.6, 0.1, 0.1]), np.array([1, 1, 0, 0, 0], dtype=bool), 2)
    # F1 of one 2 / 3, of three 4 / 5 (of two it would be 1, but equal scores stay together), of five 4 / 7
    assert worse.best_threshold() == pytest.approx(0.35)
    assert worse.at_scores([worse.best_threshold()])[2, 0] == pytest.approx(4 / 5)
    assert np.isnan(ClassCurve(np.array([0.9]), np.array([False]), 2).best_threshold())
    assert np.isnan(ClassCurve(np.zeros(0), np.zeros(0, dtype=bool), 0).best_threshold())


def test_means_leave_out_what_is_undefined():
    one = ClassCurve(np.array([0.8]), np.array([True]), 1)
    two = ClassCurve(np.array([0.4]), np.array([False]), 1)
    none = ClassCurve(np.array([0.9]), np.array([False]), 0)
    precision, recall, f1 = mean_at_scores([one, two, none])
    at = {score: int(np.argmin(np.abs(SCORES - score))) for score in (0.2, 0.6, 0.9)}
    assert [precision[at[0.2]], precision[at[0.6]]] == [0.5, 1]  # at 0.6 the second class has nothing left
    assert np.isnan(precision[at[0.9]])
    assert [recall[at[0.2]], recall[at[0.9]], f1[at[0.6]]] == [0.5, 0, 0.5]
    assert mean_average_precision([one, two, none]) == 0.5
    assert np.isnan(mean_average_precision([none]))
    assert best_mean_threshold([one, two, none]) == pytest.approx(0.4, abs=0.01)  # the middle of what keeps 0.8


def test_no_detections():
    curves = class_curves(np.zeros(0), np.zeros(0, dtype=int), np.zeros(0, dtype=bool), np.array([2, 0]))
    assert curves[0].average_precision == 0
    assert curves[0].precision_at_recalls.tolist() == [0] * len(RECALLS)
    assert mean_at_scores(curves)[1:].max() == 0
