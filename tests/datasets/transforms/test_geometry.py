"""Resizing, flipping and padding."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from tests.datasets.transforms.scenes import assert_inside, check, make


@pytest.mark.parametrize(
    ("keys", "shape"),
    [
        ({"scale": (40, 30), "keep_ratio": False}, (30, 40)),
        ({"scale": (100, 30), "keep_ratio": True}, (30, 40)),
        ({"scale": (40, 100), "keep_ratio": True}, (40, 53)),
        ({"scale": [100, 30], "keep_ratio": True}, (30, 40)),
        ({"scale": 20}, (20, 20)),
        ({"scale_factor": 0.5}, (30, 40)),
        ({"scale_factor": 2}, (120, 160)),
        ({"scale_factor": (2.0, 0.5)}, (30, 160)),
    ],
)
def test_resize_scales_boxes_as_the_image(build, results, keys, shape):
    before = results["gt_bboxes"].copy()
    after = build("Resize", **keys)(results)
    check(after)
    assert after["img_shape"] == shape
    factors = (shape[1] / 80, shape[0] / 60)
    assert after["scale_factor"] == factors
    assert after["ori_shape"] == (60, 80)
    np.testing.assert_allclose(after["gt_bboxes"], before * np.tile(factors, 2), rtol=1e-6)


@pytest.mark.parametrize("clip", [True, False])
def test_resize_clips_boxes_where_asked(build, results, clip):
    results["gt_bboxes"][0] = (-8, -6, 96, 66)
    after = build("Resize", scale=(40, 30), clip_object_border=clip)(results)
    assert after["gt_bboxes"][0].tolist() == ([0, 0, 40, 30] if clip else [-4, -3, 48, 33])


def test_resize_keeps_no_boxes(build):
    after = build("Resize", scale=20)(make(count=0))
    check(after)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, r"needs scale=\(width, height\) in pixels, or scale_factor"),
        ({"scale": "large"}, "scale must be a number or a pair"),
        ({"scale": (1, 2, 3)}, "scale must be a number or a pair"),
        ({"scale_factor": [1]}, "scale_factor must be a number or a pair"),
    ],
)
def test_resize_names_what_is_wrong(build, keys, message):
    with pytest.raises(ValueError, match=message):
        build("Resize", **keys)


def test_random_resizes_draw_from_their_range(build, results):
    np.random.seed(0)
    choice = build("RandomChoiceResize", scales=[(40, 30), (80, 60)], keep_ratio=True)
    assert {choice(copy.deepcopy(results))["img_shape"] for _ in range(20)} == {(30, 40), (60, 80)}
    between = build("RandomResize", scale=[(80, 30), (80, 60)], keep_ratio=True)
    heights = [between(copy.deepcopy(results))["img_shape"][0] for _ in range(30)]
    assert 30 <= min(heights) < 40 < 50 < max(heights) <= 60
    factor = build("RandomResize", scale=(80, 60), ratio_range=(0.5, 2.0), keep_ratio=True)
    for _ in range(10):
        after = factor(copy.deepcopy(results))
        check(after)
        assert 29 <= after["img_shape"][0] <= 121


@pytest.mark.parametrize("direction", ["horizontal", "vertical", "diagonal"])
def test_flipping_twice_is_no_flip(build, results, direction):
    flip = build("RandomFlip", prob=1.0, direction=direction)
    before = copy.deepcopy(results)
    once = flip(copy.deepcopy(results))
    check(once)
    assert_inside(once)
    assert once["flip"] is True
    assert once["flip_direction"] == direction
    assert (once["img"] != before["img"]).any()
    twice = flip(once)
    np.testing.assert_allclose(twice["gt_bboxes"], before["gt_bboxes"], atol=1e-5)
    assert (twice["img"] == before["img"]).all()


@pytest.mark.parametrize("direction", ["horizontal", "vertical", "diagonal"])
def test_a_box_flips_with_its_pixels(build, direction):
    results = make()
    results["img"][:] = 0
    results["img"][10:20, 5:30] = 255
    results["gt_bboxes"] = np.array([[5, 10, 30, 20]], np.float32)
    after = build("RandomFlip", prob=1.0, direction=direction)(results)
    left, top, right, bottom = after["gt_bboxes"][0].astype(int)
    assert (after["img"][top:bottom, left:right] == 255).all()
    assert after["img"].sum() == 255 * 3 * 250


def test_flip_directions_have_their_probabilities(build, results):
    np.random.seed(0)
    flip = build("RandomFlip", prob=[0.2, 0.5], direction=["horizontal", "vertical"])
    drawn = [flip(dict(results))["flip_direction"] for _ in range(600)]
    for direction, part in (("horizontal", 0.2), ("vertical", 0.5), (None, 0.3)):
        assert abs(drawn.count(direction) / 600 - part) < 0.06


def test_pad_adds_to_the_right_and_below(build, results):
    before = copy.deepcopy(results)
    after = build("Pad", size_divisor=32, pad_val={"img": 114})(results)
    check(after)
    assert after["img_shape"] == (64, 96)
    assert (after["img"][:60, :80] == before["img"]).all()
    assert (after["img"][60:] == 114).all()
    assert (after["gt_bboxes"] == before["gt_bboxes"]).all()


@pytest.mark.parametrize("keys", [{"scale": (30, 20), "keep_ratio": True}, {"scale_factor": 0.3}])
def test_an_image_much_longer_than_wide_keeps_a_pixel(build, keys):
    """Found by fuzzing: 61 x 1 pixels in half the size are none high."""
    resized = build("Resize", **keys)(make(height=1, width=61, count=0))
    assert resized["img"].shape == (1, 30 if "scale" in keys else 18, 3)
    assert resized["scale_factor"] == (resized["img"].shape[1] / 61, 1.0)
