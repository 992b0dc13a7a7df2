from __future__ import annotations

import numpy as np
import pytest

from densehead.analysis.detections.breakdown import forgiving_curves
from densehead.analysis.detections.overlaps import find_overlaps
from tests.analysis.detections.scenes import found, random_boxes, truth_of
from tests.analysis.detections.test_errors import at
from tests.evaluation.test_coco_api import pycocotools_evaluation


def curves_of(truth, detections, num_classes=3, supercategories=None):
    curves = forgiving_curves(
        detections,
        truth,
        find_overlaps(detections, truth),
        num_classes=num_classes,
        supercategories=supercategories,
    )
    return {name: float(values.mean()) for name, values in curves.items()}


def test_what_is_forgiven_by_hand():
    """One object of class 0. What has the better score is wrong in ever another way; precision 1/2 until forgiven.

    Classes 0 and 1 are similar; class 2 is not. Other classes have no object and do not count.
    """
    truth = truth_of((at(0), 0), (at(100), 1), (at(200), 2))
    right = [(at(0), 0, 0.5), (at(100), 1, 0.5), (at(200), 2, 0.5)]
    groups = [0, 0, 1]

    def first_class(wrong):
        """The AP of class 0, from the mean over three classes of which two are found without an error."""
        got = curves_of(truth, found(*right, (wrong, 0, 0.9)), supercategories=groups)
        return {name: round(3 * value - 2, 6) for name, value in got.items()}

    half = dict.fromkeys(("C75", "C50", "Loc", "Sim", "Oth"), 0.5) | {"BG": 1, "FN": 1}
    assert first_class(at(50)) == half  # background
    assert first_class(at(101)) == half | {"Sim": 1, "Oth": 1}
    assert first_class(at(201)) == half | {"Oth": 1}
    # off the object itself: by IoU 0.1 the better score finds it, and the other is a second one; class 0 keeps AP 1
    assert first_class(at(4)) == half | {"Loc": 1, "Sim": 1, "Oth": 1}


def test_objects_that_are_not_found_are_forgiven_last():
    truth = truth_of((at(0), 0), (at(50), 0))
    got = curves_of(truth, found((at(0), 0, 0.5)), num_classes=1)
    assert got == {"C75": 51 / 101, "C50": 51 / 101, "Loc": 51 / 101, "Oth": 51 / 101, "BG": 51 / 101, "FN": 1}


@pytest.mark.parametrize("seed", range(4))
def test_strict_ones_are_cocos_and_each_forgives_more(seed):
    truth, detections, coco_truth, coco_detections = random_boxes(seed)
    got = forgiving_curves(
        detections, truth, find_overlaps(detections, truth), num_classes=5, supercategories=[0, 0, 1, 1, 1]
    )
    assert list(got) == ["C75", "C50", "Loc", "Sim", "Oth", "BG", "FN"]
    want = pycocotools_evaluation(coco_truth, coco_detections).eval["precision"][:, :, :-1, 0, -1]
    np.testing.assert_allclose(got["C50"], want[0].mean(1), atol=1e-9)
    np.testing.assert_allclose(got["C75"], want[5].mean(1), atol=1e-9)
    means = [values.mean() for values in got.values()]
    assert means == sorted(means)
    assert means[2] < means[3] < means[4] < means[5] < 1
