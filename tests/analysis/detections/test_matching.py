from __future__ import annotations

import numpy as np
import pytest

from densehead.analysis.detections import overlaps as overlaps_module
from densehead.analysis.detections.matching import match
from densehead.analysis.detections.overlaps import find_overlaps
from tests.analysis.detections.scenes import found, naive_iou, naive_match, random_boxes, truth_of


@pytest.mark.parametrize("portion", [1 << 20, 7])
def test_overlaps_are_all_pairs_of_an_image(portion, monkeypatch):
    monkeypatch.setattr(overlaps_module, "PAIRS", portion)
    truth, detections, *_ = random_boxes(0)
    want = {}
    for det in range(len(detections)):
        for gt in np.flatnonzero(truth.images == detections.images[det]):
            same = detections.labels[det] == truth.labels[gt]
            iou = naive_iou(detections.boxes[det], truth.boxes[gt], truth.ignored[gt])
            if iou >= 0.1 and (same or not truth.ignored[gt]):
                want[det, int(gt)] = (pytest.approx(iou, abs=1e-9), same, truth.ignored[gt])
    got = find_overlaps(detections, truth)
    rows = zip(got.iou, got.is_same_class, got.is_ignored)
    assert dict(zip(zip(got.det.tolist(), got.gt.tolist()), rows)) == want
    assert got.is_ignored.any()
    assert (np.diff(got.det) >= 0).all()


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("iou_thr", [0.1, 0.5, 0.75])
@pytest.mark.parametrize("any_class", [False, True])
def test_all_at_once_is_one_after_the_other(seed, iou_thr, any_class):
    truth, detections, *_ = random_boxes(seed)
    want = naive_match(detections, truth, iou_thr, any_class)
    got = match(detections, truth, find_overlaps(detections, truth), iou_thr=iou_thr, any_class=any_class)
    assert (np.where(got.is_ignored, -2, got.gt_of_det) == want).all()
    assert (want >= 0).any()
    found_by = np.full(len(truth), -1)
    found_by[want[want >= 0]] = np.flatnonzero(want >= 0)
    assert (got.det_of_gt == found_by).all()
    assert (got.is_wrong == (want == -1)).all()


def test_who_is_refused_turns_to_the_next():
    """Three in a row, each 10 wide and shifted by 2: the best takes the middle one, which drives the second on, which
    drives the third on. IoU of boxes shifted by 1 is 9 / 11, by 2 it is 8 / 12, by 3 it is 7 / 13."""
    truth = truth_of(*(([x, 0, x + 10, 10], 0) for x in (0, 2, 4)))
    detections = found(
        ([2.5, 0, 12.5, 10], 0, 0.7),  # nearest 2, then 4, then 0
        ([2.2, 0, 12.2, 10], 0, 0.8),  # nearest 2, then 4
        ([2, 0, 12, 10], 0, 0.9),
        ([2, 0, 12, 10], 0, 0.6),
    )
    got = match(detections, truth, find_overlaps(detections, truth), iou_thr=0.5)
    assert got.gt_of_det.tolist() == [0, 2, 1, -1]
    assert got.det_of_gt.tolist() == [0, 2, 1]


def test_a_long_chain_of_refusals():
    """Many detections of the same place among many objects: as many rounds as objects."""
    rng = np.random.default_rng(0)
    truth = truth_of(*(([x, 0, x + 100, 100], 0) for x in rng.permutation(30)))
    detections = found(*(([15 + x, 0, 115 + x, 100], 0, score) for x, score in rng.random((60, 2))))
    got = match(detections, truth, find_overlaps(detections, truth), iou_thr=0.5)
    assert (got.gt_of_det == naive_match(detections, truth, 0.5)).all()
    assert got.is_right.sum() == 30


def test_ignored_objects_take_any_number_of_their_class():
    crowd, other = ([0, 0, 100, 100], 0, 0, True), ([0, 0, 20, 20], 1)
    truth = truth_of(crowd, other)
    detections = found(
        ([0, 0, 20, 20], 0, 0.9), ([50, 50, 70, 70], 0, 0.8), ([50, 50, 70, 70], 1, 0.7), ([95, 95, 115, 115], 0, 0.6)
    )
    got = match(detections, truth, find_overlaps(detections, truth), iou_thr=0.5)
    assert got.is_ignored.tolist() == [True, True, False, False]
    assert got.is_wrong.tolist() == [False, False, True, True]


@pytest.mark.parametrize(("truth", "detections"), [(truth_of(), found()), (truth_of(([0, 0, 9, 9], 0)), found())])
def test_nothing_to_match(truth, detections):
    got = match(detections, truth, find_overlaps(detections, truth), iou_thr=0.5)
    assert got.gt_of_det.shape == (0,)
    assert (got.det_of_gt == -1).all()
    detections = found(([0, 0, 9, 9], 0, 0.5))
    assert match(detections, truth_of(), find_overlaps(detections, truth_of()), iou_thr=0.5).is_wrong.tolist() == [True]
