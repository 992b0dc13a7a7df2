from __future__ import annotations

import numpy as np
import pytest

from densehead.visualization.labels import are_free, place_labels


def shared(one, other):
    """Pixels that two boxes share, by counting."""
    cells = [{(x, y) for x in range(int(b[0]), int(b[2])) for y in range(int(b[1]), int(b[3]))} for b in (one, other)]
    return len(cells[0] & cells[1])


def test_a_lone_label_stands_above_the_left_corner():
    (place,) = place_labels(np.array([[50.0, 60, 120, 140]]), np.array([[30, 12]]), (300, 200))
    assert place.tolist() == [50, 48, 80, 60]


@pytest.mark.parametrize(
    "box", [[0, 0, 60, 60], [240, 0, 300, 60], [0, 140, 60, 200], [240, 140, 300, 200], [-20, -30, 9, 9]]
)
def test_labels_at_borders_stay_inside_and_off_the_object(box):
    (place,) = place_labels(np.array([box], dtype=float), np.array([[70, 14]]), (300, 200))
    assert (place[:2] >= 0).all()
    assert (place[2:] <= [300, 200]).all()
    assert shared(place, box) == 0
    assert (place[2:] - place[:2]).tolist() == [70, 14]


@pytest.mark.parametrize("seed", range(3))
def test_labels_of_a_crowd_stay_inside_and_apart(seed):
    rng = np.random.default_rng(seed)
    low = rng.uniform(0, 560, (40, 2))
    boxes = np.concatenate([low, low + rng.uniform(10, 80, (40, 2))], 1)
    places = place_labels(boxes, np.tile([[40.0, 12]], (40, 1)), (640, 640))
    assert (places[:, :2] >= 0).all()
    assert (places[:, 2:] <= 640).all()
    touching = sum(shared(places[i], places[j]) > 0 for i in range(40) for j in range(i))
    always_above = np.concatenate([boxes[:, :2] - [0, 12], boxes[:, :2] + [40, 0]], 1)
    assert touching <= 2 < sum(shared(always_above[i], always_above[j]) > 0 for i in range(40) for j in range(i))


def test_a_neighbour_is_left_free():
    """The place above the lower box would cover the upper one."""
    boxes = np.array([[50.0, 100, 110, 150], [50, 80, 110, 100]])
    places = place_labels(boxes, np.array([[60, 15], [60, 15]]), (300, 200))
    assert shared(places[0], boxes[1]) == 0


def test_nothing_to_place_and_labels_larger_than_the_canvas():
    assert place_labels(np.zeros((0, 4)), np.zeros((0, 2)), (10, 10)).shape == (0, 4)
    (place,) = place_labels(np.array([[2.0, 2, 5, 5]]), np.array([[40, 12]]), (10, 10))
    assert place[:2].tolist() == [0, 0]


def test_labels_that_hide_something_are_known():
    """The first hides nothing, the second all of a small object, the third a label that is shown, the last two share a
    place, of which the first to come is free.
    """
    boxes = np.array([[0, 20, 100, 120], [210, 5, 216, 9], [300, 300, 400, 400]], dtype=float)
    places = np.array(
        [[0, 0, 40, 12], [200, 0, 240, 12], [30, 4, 70, 16], [300, 320, 340, 332], [300, 320, 340, 332]], dtype=float
    )
    assert are_free(places, boxes).tolist() == [True, False, False, True, False]
    assert are_free(places[1:2], boxes[:1]).tolist() == [True]
    assert are_free(np.zeros((0, 4)), boxes).tolist() == []
    assert are_free(places[:1], np.zeros((0, 4))).tolist() == [True]
