from __future__ import annotations

import copy

import numpy as np
import pytest

from tests.datasets.transforms.scenes import assert_inside, check, make

CROPS = [
    {"crop_size": (40, 30)},
    {"crop_size": (500, 30)},
    {"crop_size": (20, 70), "crop_type": "absolute_range"},
    {"crop_size": (0.5, 0.25), "crop_type": "relative"},
    {"crop_size": (0.3, 0.5), "crop_type": "relative_range"},
]


def painted(results):
    """Paint every pixel with where it is from: blue counts columns, green rows."""
    height, width = results["img"].shape[:2]
    results["img"][..., 0] = np.arange(width)
    results["img"][..., 1] = np.arange(height)[:, None]
    return results


@pytest.mark.parametrize("keys", CROPS)
def test_random_crop_keeps_the_boxes_that_touch_it(build, keys):
    np.random.seed(0)
    crop = build("RandomCrop", allow_negative_crop=True, **keys)
    for seed in range(30):
        results = painted(make(seed=seed))
        before = copy.deepcopy(results)
        after = crop(results)
        check(after)
        assert_inside(after)
        left, top = after["img"][0, 0, :2].astype(int)
        height, width = after["img"].shape[:2]
        boxes, labels = [], []
        for box, label in zip(before["gt_bboxes"], before["gt_bboxes_labels"], strict=True):
            moved = box - np.float32([left, top, left, top])
            if moved[0] < width and moved[1] < height and moved[2] > 0 and moved[3] > 0:
                boxes.append(np.clip(moved, 0, [width, height, width, height]))
                labels.append(label)
        np.testing.assert_allclose(after["gt_bboxes"], np.reshape(boxes, (-1, 4)), atol=1e-5)
        assert after["gt_bboxes_labels"].tolist() == labels


@pytest.mark.parametrize(
    ("keys", "heights", "widths"),
    [
        (CROPS[0], (30, 30), (40, 40)),
        (CROPS[1], (30, 30), (80, 80)),
        (CROPS[2], (20, 60), (20, 70)),
        (CROPS[3], (15, 15), (40, 40)),
        (CROPS[4], (18, 60), (40, 80)),
    ],
)
def test_random_crop_is_of_the_size_asked_for(build, results, keys, heights, widths):
    np.random.seed(0)
    crop = build("RandomCrop", allow_negative_crop=True, **keys)
    shapes = np.array([crop(copy.deepcopy(results))["img_shape"] for _ in range(60)])
    for side, (low, high) in zip(shapes.T, (heights, widths), strict=True):
        assert low <= side.min() <= low + 4
        assert high - 4 <= side.max() <= high


def test_random_crop_without_a_box_asks_for_another_image(build):
    crop = {"crop_size": (10, 10)}
    results = make(count=1)
    results["gt_bboxes"][:] = (0, 0, 5, 5)
    np.random.seed(1)
    assert build("RandomCrop", **crop)(copy.deepcopy(results)) is None
    after = build("RandomCrop", allow_negative_crop=True, **crop)(copy.deepcopy(results))
    check(after)
    assert len(after["gt_bboxes"]) == 0
    assert build("RandomCrop", **crop)(make(count=0)) is None


def test_random_crop_need_not_clip(build, results):
    np.random.seed(0)
    results["gt_bboxes"][0] = (0, 0, 80, 60)
    after = build("RandomCrop", crop_size=(20, 20), bbox_clip_border=False)(results)
    assert (after["gt_bboxes"][0, 2:] - after["gt_bboxes"][0, :2]).tolist() == [80, 60]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"crop_size": (10, 10), "crop_type": "square"}, "crop_type must be one of"),
        ({"crop_size": (0, 10)}, "two positive pixels, but got"),
        ({"crop_size": (0.5, 0.5)}, "two positive pixels"),
        ({"crop_size": (10,)}, "two positive pixels"),
        ({"crop_size": (20, 10), "crop_type": "absolute_range"}, "ascending"),
        ({"crop_size": (2, 1), "crop_type": "relative"}, r"two parts in \(0, 1\]"),
    ],
)
def test_random_crop_names_what_is_wrong(build, keys, message):
    with pytest.raises(ValueError, match=message):
        build("RandomCrop", **keys)


def test_min_iou_crop_keeps_the_boxes_with_their_centre_inside(build):
    np.random.seed(0)
    crop = build("MinIoURandomCrop", min_ious=(0.2,), min_crop_size=0.5)
    cut = 0
    for seed in range(40):
        results = painted(make(count=2, seed=seed))
        before = copy.deepcopy(results)
        after = crop(results)
        check(after)
        assert_inside(after)
        left, top = after["img"][0, 0, :2].astype(int)
        height, width = after["img"].shape[:2]
        window = np.array([left, top, left + width, top + height])
        centers = (before["gt_bboxes"][:, :2] + before["gt_bboxes"][:, 2:]) / 2
        inside = ((centers > window[:2]) & (centers < window[2:])).all(1)
        assert after["gt_bboxes_labels"].tolist() == np.flatnonzero(inside).tolist()
        if (height, width) != (60, 80):
            cut += 1
            assert 0.5 <= height / width <= 2.1
    assert cut > 10


def test_min_iou_crop_holds_its_threshold(build):
    crop = build("MinIoURandomCrop")
    box = np.array([[10, 10, 50, 50]], np.float32)
    window = np.array([10, 10, 50, 40])  # three quarters of the box
    assert crop._fits(window, box, 0.74) is not None
    assert crop._fits(window, box, 0.76) is None
    assert crop._fits(np.array([30, 30, 80, 60]), box, 0) is None  # the centre is on the corner: outside


def test_min_iou_crop_of_an_image_without_boxes(build):
    np.random.seed(3)
    for _ in range(10):
        check(build("MinIoURandomCrop")(make(count=0)))


def test_expand_moves_boxes_with_the_image(build):
    np.random.seed(0)
    expand = build("Expand", mean=(1, 2, 3), ratio_range=(1.5, 3), prob=1.0)
    for seed in range(10):
        results = make(seed=seed)
        before = copy.deepcopy(results)
        after = expand(results)
        check(after)
        assert 90 <= after["img_shape"][0] <= 180
        left, top = (after["gt_bboxes"] - before["gt_bboxes"])[0, :2].round().astype(int)
        assert (after["img"][top : top + 60, left : left + 80] == before["img"]).all()
        np.testing.assert_allclose(after["gt_bboxes"] - before["gt_bboxes"], [[left, top] * 2] * 6, atol=1e-4)
    corner = after["img"][0, 0] if top or left else after["img"][-1, -1]
    assert corner.tolist() == [3, 2, 1]


def test_expand_happens_with_its_probability(build, results):
    np.random.seed(0)
    never, half = build("Expand", prob=0.0), build("Expand", prob=0.5, ratio_range=(2, 2))
    assert never(dict(results))["img"] is results["img"]
    grown = sum(half(dict(results))["img_shape"] == (120, 160) for _ in range(100))
    assert 30 < grown < 70
    with pytest.raises(ValueError, match="ratio_range"):
        build("Expand", ratio_range=(0.5, 2))


def test_filter_annotations_drops_what_is_too_small(build, results):
    results["gt_bboxes"][:] = (0, 0, 20, 20)
    results["gt_bboxes"][2] = (0, 0, 20, 5)
    results["gt_bboxes"][4] = (0, 0, 5, 20)
    after = build("FilterAnnotations", min_gt_bbox_wh=(5, 5))(copy.deepcopy(results))
    check(after)
    assert after["gt_bboxes_labels"].tolist() == [0, 1, 3, 5]
    assert build("FilterAnnotations", min_gt_bbox_wh=(50, 50))(copy.deepcopy(results)) is None
    assert len(build("FilterAnnotations", min_gt_bbox_wh=(50, 50), keep_empty=False)(results)["gt_bboxes"]) == 0
    assert build("FilterAnnotations")(make(count=0)) is not None
    with pytest.raises(ValueError, match="no masks"):
        build("FilterAnnotations", by_mask=True)
