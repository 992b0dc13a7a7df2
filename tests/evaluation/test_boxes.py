from __future__ import annotations

import numpy as np

from densehead.evaluation.boxes import joined_detections, joined_truth, pairs_of_groups


def test_pairs_of_groups_are_all_pairs_in_order():
    first, second = np.array([3, 1, 3, 9]), np.array([1, 3, 2, 3])
    want = [(i, j) for i in range(4) for j in range(4) if first[i] == second[j]]
    assert (
        list(zip(*(one.tolist() for one in pairs_of_groups(first, second))))
        == want
        == [(0, 1), (0, 3), (1, 0), (2, 1), (2, 3)]
    )
    assert [len(one) for one in pairs_of_groups(first, second[:0])] == [0, 0]
    assert [len(one) for one in pairs_of_groups(first[:0], second)] == [0, 0]


def test_images_are_joined_one_after_the_other():
    truth = joined_truth(
        [[], [{"bbox": [1, 2, 3, 4], "bbox_label": 5}, {"bbox": [0, 0, 1, 1], "bbox_label": 6, "ignore_flag": 1}]]
    )
    assert truth.images.tolist() == [1, 1]
    assert truth.ignored.tolist() == [False, True]
    assert truth.boxes.dtype == np.float32
    one = {"bboxes": np.array([[0, 0, 2, 2]]), "labels": np.array([3]), "scores": np.array([0.5])}
    none = {"bboxes": np.zeros((0, 4)), "labels": np.zeros(0), "scores": np.zeros(0)}
    found = joined_detections([one, none, one], np.float64)
    assert found.images.tolist() == [0, 2]
    assert (found.boxes.dtype, found.labels.dtype) == (np.float64, np.int64)
    assert found.take(found.images == 2).labels.tolist() == [3]
    assert len(truth.take([1])) == 1
    assert len(joined_truth([])) == len(joined_detections([])) == 0
