from __future__ import annotations

import copy
import math

import cv2
import numpy as np
import pytest

from densehead.datasets.transforms import RandomWarp
from tests.datasets.transforms.scenes import assert_inside, check, make

STILL = {
    "perspective": np.zeros(2),
    "scale": 1.0,
    "stretch": np.ones(2),
    "rotation": 0.0,
    "shear": np.zeros(2),
    "flip": False,
    "translate": np.zeros(2),
}
EVERYTHING = {
    "perspective": 0.001,
    "scale": (0.6, 1.4),
    "stretch": ((0.8, 1.2), (0.8, 1.2)),
    "rotation": 30.0,
    "shear": 10.0,
    "translate": 0.2,
    "flip": 0.5,
}


@pytest.fixture
def warp(monkeypatch):
    """Warp results with given values in place of random ones."""

    def run(results, keys=None, **drawn):
        height, width = results["img"].shape[:2]
        transform = RandomWarp(**{"size": (width, height), **(keys or {})})
        monkeypatch.setattr(transform, "_draw", lambda: STILL | drawn)
        return transform(copy.deepcopy(results))

    return run


def scene(*boxes, height=60, width=80):
    """A black image with white rectangles, and their boxes."""
    results = make(height, width, count=len(boxes))
    results["img"][:] = 0
    results["gt_bboxes"] = np.array(boxes, np.float32).reshape(-1, 4)
    for left, top, right, bottom in boxes:
        results["img"][top:bottom, left:right] = 255
    return results


def white(results):
    """(4,) the borders of what is more white than black."""
    rows, columns = np.nonzero(results["img"][..., 0] > 127)
    return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize(
    ("drawn", "before", "after"),
    [
        ({}, (5, 10, 30, 40), (5, 10, 30, 40)),
        ({"flip": True}, (5, 10, 30, 40), (50, 10, 75, 40)),
        ({"translate": np.array([0.1, -0.05])}, (20, 10, 30, 40), (28, 7, 38, 37)),
        ({"scale": 2.0}, (30, 20, 55, 40), (20, 10, 70, 50)),  # about the centre, (40, 30)
        ({"scale": 0.5}, (0, 0, 80, 60), (20, 15, 60, 45)),
        ({"stretch": np.array([2.0, 0.5])}, (30, 20, 55, 40), (20, 25, 70, 35)),
        ({"rotation": 90.0}, (50, 20, 60, 40), (30, 10, 50, 20)),  # what is right of the centre comes above it
        ({"rotation": 180.0}, (5, 10, 30, 40), (50, 20, 75, 50)),
        # first the scale, then the flip, then the way
        ({"scale": 2.0, "flip": True, "translate": np.array([0.1, 0])}, (30, 20, 50, 40), (28, 10, 68, 50)),
        ({"scale": 2.0}, (10, 20, 50, 40), (0, 10, 60, 50)),  # cut at the border
    ],
)
def test_a_rectangle_and_its_box_go_together(warp, drawn, before, after):
    results = warp(scene(before), **drawn)
    check(results)
    np.testing.assert_allclose(results["gt_bboxes"], [after], atol=1e-4)
    assert white(results) == list(after)


@pytest.mark.parametrize(
    ("keys", "shape", "after"),
    [
        ({"size": (160, 30)}, (30, 160), (10, 5, 60, 20)),
        ({"size": (40, 60), "keep_ratio": True}, (30, 40), (2.5, 5, 15, 20)),
        ({"size": (200, 30), "keep_ratio": True}, (30, 40), (2.5, 5, 15, 20)),
        ({"size": (160, 120), "keep_ratio": True}, (120, 160), (10, 20, 60, 80)),
        # 80 x 60 is 80 x 64 with a border of 2 above and below
        ({"size": (80, 60), "keep_ratio": True, "divisible": 16}, (64, 80), (5, 12, 30, 42)),
    ],
)
def test_the_image_is_brought_to_its_size(warp, keys, shape, after):
    results = warp(scene((5, 10, 30, 40)), keys)
    check(results)
    assert results["img"].shape == (*shape, 3)
    np.testing.assert_allclose(results["gt_bboxes"], [after], atol=1e-4)
    np.testing.assert_allclose(white(results), after, atol=0.5)


@pytest.mark.parametrize("size", [(40, 30), (120, 50)])
def test_without_anything_random_it_is_a_resize(build, size):
    results = make()
    results["img"] = cv2.GaussianBlur(results["img"], (0, 0), 3)
    plain = build("Resize", scale=size)(copy.deepcopy(results))
    warped = RandomWarp(size)(copy.deepcopy(results))
    np.testing.assert_allclose(warped["gt_bboxes"], plain["gt_bboxes"], rtol=1e-6)
    assert {key: warped[key] for key in ("img_shape", "scale_factor")} == {
        key: plain[key] for key in ("img_shape", "scale_factor")
    }
    inner = slice(2, -2)  # resizing repeats the border, warping goes on with black
    difference = warped["img"][inner, inner].astype(int) - plain["img"][inner, inner]
    assert abs(difference).max() <= 2


def coordinates(height, width):
    """(height, width, 3) float32: each pixel holds the place of its centre, and a 1."""
    rows, columns = np.indices((height, width))
    return np.stack([columns + 0.5, rows + 0.5, np.ones((height, width))], -1).astype(np.float32)


@pytest.mark.parametrize("pixel_centers", [True, False])
def test_each_pixel_is_where_the_matrix_says(pixel_centers):
    transform = RandomWarp((100, 90), **EVERYTHING, pixel_centers=pixel_centers)
    offset = np.array([0, 0, 0] if pixel_centers else [0.5, 0.5, 0])
    for seed in range(10):
        np.random.seed(seed)
        after = transform({"img": coordinates(60, 80)})
        inside = after["img"][..., 2] > 0.9999
        assert inside.sum() > 1000
        places = (after["img"] - offset)[inside] @ after["warp_matrix"].T
        expected = (coordinates(90, 100) - offset)[inside]
        np.testing.assert_allclose(places[:, :2] / places[:, 2:], expected[:, :2], atol=0.1)


def test_the_parts_come_in_their_order(warp):
    drawn = {
        "perspective": np.array([0.001, -0.002]),
        "scale": 1.3,
        "stretch": np.array([0.9, 1.2]),
        "rotation": 20.0,
        "shear": np.array([5.0, -7.0]),
        "flip": True,
        "translate": np.array([0.1, -0.2]),
    }
    matrix = warp(make(), {"size": (160, 30)}, **drawn)["warp_matrix"]
    turn = math.radians(20)
    for x, y in ((0, 0), (80, 0), (13.5, 47.25)):
        right, down = x - 40, y - 30
        depth = 1 + 0.001 * right - 0.002 * down
        right, down = right * 1.3 * 0.9, down * 1.3 * 1.2
        right, down = math.cos(turn) * right + math.sin(turn) * down, math.cos(turn) * down - math.sin(turn) * right
        right, down = (
            right + math.tan(math.radians(5)) * down,
            down + math.tan(math.radians(-7)) * right,
        )
        place = (-right / depth + 0.6 * 80) * 2, (down / depth + 0.3 * 60) / 2
        got = matrix @ (x, y, 1)
        np.testing.assert_allclose(got[:2] / got[2], place)


def test_boxes_surround_their_warped_corners():
    transform = RandomWarp((64, 64), **EVERYTHING | {"translate": 0.5})
    removed = 0
    for seed in range(30):
        np.random.seed(seed)
        before = make(seed=seed)
        after = transform(copy.deepcopy(before))
        check(after)
        assert_inside(after)
        expected = {}
        for label, (left, top, right, bottom) in enumerate(before["gt_bboxes"].astype(float)):
            corners = [after["warp_matrix"] @ (x, y, 1) for x in (left, right) for y in (top, bottom)]
            columns = [min(max(x / depth, 0), 64) for x, _, depth in corners]
            rows = [min(max(y / depth, 0), 64) for _, y, depth in corners]
            if min(columns) < max(columns) and min(rows) < max(rows):
                expected[label] = (min(columns), min(rows), max(columns), max(rows))
        assert after["gt_bboxes_labels"].tolist() == list(expected)
        np.testing.assert_allclose(after["gt_bboxes"], list(expected.values()), atol=1e-3)
        assert (after["gt_ignore_flags"] == (after["gt_bboxes_labels"] == 5)).all()
        removed += 6 - len(expected)
    assert removed > 10


def test_a_drawn_rectangle_follows_its_box_whatever_is_drawn():
    keys = EVERYTHING | {"rotation": 0.0, "shear": 0.0, "perspective": 0.0}
    for seed in range(20):
        np.random.seed(seed)
        after = RandomWarp((120, 100), **keys)(scene((20, 15, 60, 45)))
        # half a pixel, and what OpenCV before 5 rounds the place of a pixel to, 1/32
        np.testing.assert_allclose(white(after), after["gt_bboxes"][0], atol=0.55)
    for seed in range(20):
        np.random.seed(seed)
        after = RandomWarp((240, 200), **EVERYTHING)(scene((20, 15, 60, 45)))
        np.testing.assert_allclose(white(after), after["gt_bboxes"][0], atol=3)  # sharp corners get gray


def test_boxes_that_leave_the_image_go(warp):
    results = warp(scene((0, 0, 30, 30), (60, 40, 80, 60)), translate=np.array([-0.5, 0]))
    check(results)
    np.testing.assert_allclose(results["gt_bboxes"], [(20, 40, 40, 60)], atol=1e-4)
    assert results["gt_bboxes_labels"].tolist() == [1]
    check(warp(results, translate=np.array([2.0, 0])))
    check(warp(make(count=0)))


def test_a_box_beyond_the_horizon_goes(warp):
    results = warp(scene((0, 20, 40, 40), (60, 20, 70, 30)), perspective=np.array([0.03, 0]))
    assert results["gt_bboxes_labels"].tolist() == [1]
    assert np.isfinite(results["gt_bboxes"]).all()


def test_borders_have_the_colour_asked_for(warp):
    results = warp(make(), {"pad_val": (1, 2, 3)}, scale=0.5)
    assert (results["img"][0, 0] == (1, 2, 3)).all()
    assert (warp(make(), scale=0.5)["img"][0, 0] == 0).all()


def test_draws_stay_in_their_range():
    np.random.seed(0)
    transform = RandomWarp((80, 60), **EVERYTHING)
    draws = [transform._draw() for _ in range(300)]
    for name, low, high in (
        ("perspective", -0.001, 0.001),
        ("scale", 0.6, 1.4),
        ("stretch", 0.8, 1.2),
        ("rotation", -30, 30),
        ("shear", -10, 10),
        ("translate", -0.2, 0.2),
    ):
        values = np.array([draw[name] for draw in draws]).reshape(300, -1)
        margin = 0.05 * (high - low)
        assert (low <= values.min(0)).all()
        assert (values.min(0) < low + margin).all()
        assert (high - margin < values.max(0)).all()
        assert (values.max(0) <= high).all()
    assert abs(sum(draw["flip"] for draw in draws) / 300 - 0.5) < 0.1
    never, always = RandomWarp((8, 8)), RandomWarp((8, 8), flip=1.0)
    assert not any(never._draw()["flip"] for _ in range(50))
    assert all(always._draw()["flip"] for _ in range(50))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"size": 320}, r"size must be \(width, height\) in positive pixels, but got 320"),
        ({"size": (320, 0)}, r"size must be \(width, height\) in positive pixels"),
        ({"scale": 0.5}, r"scale must be \(smallest, largest\), both positive, but got 0.5"),
        ({"scale": (1.4, 0.6)}, r"scale must be \(smallest, largest\)"),
        ({"stretch": (0.8, 1.2)}, r"stretch\[0\] must be \(smallest, largest\)"),
        ({"stretch": ((0.8, 1.2),)}, r"stretch must be two ranges"),
        ({"rotation": -10}, "rotation must lie in 0 to 180, but got -10"),
        ({"shear": 45}, "shear must lie in 0 to 44, but got 45"),
        ({"flip": 2}, "flip must lie in 0 to 1, but got 2"),
        ({"translate": -0.1}, "translate must lie in 0 to 10, but got -0.1"),
    ],
)
def test_what_is_wrong_is_named(keys, message):
    with pytest.raises(ValueError, match=message):
        RandomWarp(**{"size": (32, 32), **keys})
