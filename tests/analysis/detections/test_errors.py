"""Kinds of errors and their cost, by hand. All boxes are 10 x 10 unless said; a shift by x has the IoU (10-x)/(10+x):
by 1 it is 0.82, by 4 it is 0.43, by 9 it is 0.05."""

from __future__ import annotations

import numpy as np
import pytest

from densehead.analysis.detections.errors import KINDS, MEANING, RIGHT, cost_of_errors, find_errors
from densehead.analysis.detections.matching import match
from densehead.analysis.detections.overlaps import find_overlaps
from tests.analysis.detections.scenes import found, random_boxes, truth_of


def at(x, y=0):
    return [x, y, x + 10, y + 10]


def errors_of(truth, detections, num_classes=2):
    overlaps = find_overlaps(detections, truth)
    matches = match(detections, truth, overlaps, iou_thr=0.5)
    errors = find_errors(detections, truth, overlaps, matches, iou_thr=0.5, background_iou=0.1)
    return errors, cost_of_errors(detections, truth, matches, errors, num_classes)


def kinds(errors):
    return ["right" if kind == RIGHT else KINDS[kind] for kind in errors.kind]


CASES = [
    (at(1), 0, "right"),
    (at(1), 1, "classification"),
    (at(4), 0, "localisation"),
    (at(4), 1, "both"),
    (at(9), 0, "background"),
    (at(9), 1, "background"),
    (at(50), 0, "background"),
]


@pytest.mark.parametrize(("box", "label", "kind"), CASES)
def test_kind_of_one_detection(box, label, kind):
    errors, costs = errors_of(truth_of((at(0), 0)), found((box, label, 0.5)))
    assert kinds(errors) == [kind]
    repairable = kind in ("classification", "localisation")
    assert errors.target.tolist() == [0 if repairable else -1]
    assert errors.is_missed.tolist() == [kind not in ("right", "classification", "localisation")]
    counts = {name: int(cost.count.sum()) for name, cost in costs.items()}
    want = dict.fromkeys(MEANING, 0) | {kind: 1, "missed": int(errors.is_missed[0])} if kind != "right" else None
    if want:
        assert counts == want | {"false positives": 1, "false negatives": 1}
    assert costs["classification"].mean_gain == (1 if kind == "classification" else 0)
    assert costs["localisation"].mean_gain == (1 if kind == "localisation" else 0)


def test_duplicates_and_the_order_of_kinds():
    """Object of class 0 at 0, of class 1 at 2 (IoU 0.67 with the first)."""
    truth = truth_of((at(0), 0), (at(2), 1), (at(30), 0))
    detections = found(
        (at(0), 0, 0.9),
        (at(1), 0, 0.8),  # a second one on the first object, which lies on the second as well: the authors' tool says
        (at(30), 0, 0.7),
        (at(31), 0, 0.6),
        (at(26), 0, 0.5),  # overlaps its class too little
    )
    errors, _ = errors_of(truth, detections)
    assert kinds(errors) == ["right", "classification", "right", "duplicate", "localisation"]
    assert errors.is_missed.tolist() == [False, False, False]  # the second is only of the wrong class


def test_cost_by_hand():
    """Two objects of class 0. Right at 0.9, background at 0.8, a box off the second object at 0.7.

    AP: recall 1/2 at precision 1, never more: 51 of 101 recalls.
    Localised, the third is right at precision 2/3: 51 + 50 x 2/3. Without background nothing is gained, as recall ends
    there; without all wrong ones neither; missed objects: none, as the second has its box. Without those that are not
    found there is one object, found at once.
    """
    truth = truth_of((at(0), 0), (at(20), 0))
    errors, costs = errors_of(truth, found((at(0), 0, 0.9), (at(60), 0, 0.8), (at(24), 0, 0.7)), num_classes=1)
    assert kinds(errors) == ["right", "background", "localisation"]
    gains = {kind: cost.mean_gain for kind, cost in costs.items()}
    assert gains == {
        "classification": 0,
        "localisation": pytest.approx(50 * 2 / 3 / 101),
        "both": 0,
        "duplicate": 0,
        "background": 0,
        "missed": 0,
        "false positives": 0,
        "false negatives": pytest.approx(50 / 101),
    }
    assert costs["localisation"].gain == pytest.approx([50 * 2 / 3 / 101])


def test_wrong_ones_before_right_ones_cost_precision():
    """Background at 0.9, the object at 0.8: AP 1/2, and 1 without the background."""
    _, costs = errors_of(truth_of((at(0), 0)), found((at(60), 0, 0.9), (at(0), 0, 0.8)), num_classes=1)
    assert costs["background"].mean_gain == costs["false positives"].mean_gain == pytest.approx(0.5)


def test_a_corrected_class_counts_there_once():
    """One object of class 1, called 0 twice. Corrected, the better scored one finds it; the other is taken away."""
    truth = truth_of((at(0), 1), (at(40), 0))
    detections = found((at(0), 0, 0.9), (at(1), 0, 0.8), (at(40), 0, 0.7))
    errors, costs = errors_of(truth, detections)
    assert kinds(errors) == ["classification", "classification", "right"]
    cost = costs["classification"]
    assert cost.count.tolist() == [2, 0]  # of the class that was said
    assert cost.gain == pytest.approx([1 - 1 / 3, 1])  # class 0 had precision 1/3, class 1 nothing
    assert cost.mean_gain == pytest.approx((1 - 1 / 3 + 1) / 2)


def test_what_is_found_already_is_not_found_again():
    """One of two objects is found at 0.5; a wrong class on it at 0.9 is only taken away when it is corrected."""
    errors, costs = errors_of(truth_of((at(0), 0), (at(40), 0)), found((at(0), 0, 0.5), (at(1), 1, 0.9)))
    assert kinds(errors) == ["right", "classification"]
    assert costs["classification"].gain[0] == 0
    assert np.isnan(costs["classification"].gain[1])


def test_missed_objects_are_not_counted_without_them():
    """A class that is missed wholly leaves the mean."""
    truth = truth_of((at(0), 0), (at(40), 0), (at(80), 1))
    _, costs = errors_of(truth, found((at(0), 0, 0.5)))
    assert costs["missed"].count.tolist() == [1, 1]
    assert costs["missed"].mean_gain == pytest.approx(1 - 51 / 101 / 2)
    _, costs = errors_of(truth, found())
    assert np.isnan(costs["missed"].mean_gain)


def test_ignored_objects_are_no_part_of_it():
    truth = truth_of((at(0), 0, 0, True), (at(40), 0))
    errors, costs = errors_of(truth, found((at(1), 0, 0.9), (at(40), 0, 0.8)))
    assert kinds(errors) == ["right", "right"]  # neither right nor wrong, and right
    assert all(cost.mean_gain == 0 for cost in costs.values())


@pytest.mark.parametrize("seed", range(4))
def test_every_error_is_of_one_kind(seed):
    truth, detections, *_ = random_boxes(seed)
    _, costs = errors_of(truth, detections, 5)
    parts = sum(costs[kind].count for kind in KINDS[:-1])
    assert (parts == costs["false positives"].count).all()
    assert (costs["missed"].count <= costs["false negatives"].count).all()
    gains = [cost.mean_gain for cost in costs.values()]
    assert min(gains) >= 0
    assert costs["false positives"].mean_gain >= max(costs[kind].mean_gain for kind in KINDS[2:5])
