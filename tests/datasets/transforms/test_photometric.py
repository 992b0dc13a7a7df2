from __future__ import annotations

import copy

import cv2
import numpy as np
import pytest

from densehead.datasets.transforms import PhotoMetricDistortion, RandomColorJitter
from tests.datasets.transforms.scenes import check


def drawn(**values):
    nothing = dict.fromkeys(("brightness", "contrast", "saturation", "hue", "channels"))
    return {**nothing, "late_contrast": False, **values}


def distorted(results, monkeypatch, **values):
    transform = PhotoMetricDistortion()
    monkeypatch.setattr(transform, "_draw", lambda: drawn(**values))
    return transform(copy.deepcopy(results))["img"]


def test_each_step_does_what_it_says(results, monkeypatch):
    image = results["img"].astype(np.float32)
    close = {"atol": 0.1}
    np.testing.assert_allclose(distorted(results, monkeypatch), image, **close)
    np.testing.assert_allclose(distorted(results, monkeypatch, brightness=7.0), image + 7, **close)
    np.testing.assert_allclose(distorted(results, monkeypatch, contrast=1.5), image * 1.5, **close)
    np.testing.assert_allclose(distorted(results, monkeypatch, contrast=0.5, late_contrast=True), image / 2, **close)
    np.testing.assert_allclose(
        distorted(results, monkeypatch, channels=np.array([2, 0, 1])), image[..., [2, 0, 1]], **close
    )
    gray = distorted(results, monkeypatch, saturation=0.0)
    np.testing.assert_allclose(gray, image.max(-1, keepdims=True).repeat(3, -1), **close)
    full = distorted(results, monkeypatch, saturation=1e6)  # no more than full: the weakest channel is 0
    assert abs(full.min(-1)).max() < 0.1
    np.testing.assert_allclose(full.max(-1), image.max(-1), **close)
    turned = distorted(results, monkeypatch, hue=120.0)  # a third of a turn: red becomes green, green blue, blue red
    np.testing.assert_allclose(turned, image[..., [1, 2, 0]], **close)
    np.testing.assert_allclose(distorted(results, monkeypatch, hue=-120.0), image[..., [2, 0, 1]], **close)


def test_draws_differ_and_leave_the_truth(results):
    np.random.seed(0)
    transform = PhotoMetricDistortion()
    images = []
    for _ in range(20):
        after = transform(copy.deepcopy(results))
        check(after)
        assert after["img"].dtype == np.float32
        assert np.isfinite(after["img"]).all()
        assert (after["gt_bboxes"] == results["gt_bboxes"]).all()
        images.append(after["img"])
    assert len({image.tobytes() for image in images}) > 10


def test_each_coin_is_fair():
    np.random.seed(0)
    transform = PhotoMetricDistortion()
    draws = [transform._draw() for _ in range(600)]
    for name in ("brightness", "contrast", "saturation", "hue", "channels"):
        assert abs(sum(draw[name] is not None for draw in draws) / 600 - 0.5) < 0.08
    assert abs(sum(draw["late_contrast"] for draw in draws) / 600 - 0.5) < 0.08


def jittered(results, monkeypatch, **values):
    transform = RandomColorJitter()
    monkeypatch.setattr(transform, "_draw", lambda: dict.fromkeys(("brightness", "contrast", "saturation")) | values)
    return transform(copy.deepcopy(results))["img"]


def test_each_jitter_does_what_it_says(results, monkeypatch):
    image = results["img"].astype(np.float32)
    assert (jittered(results, monkeypatch) == image).all()
    np.testing.assert_allclose(jittered(results, monkeypatch, brightness=-0.2), image - 51, rtol=1e-6)
    np.testing.assert_allclose(jittered(results, monkeypatch, contrast=1.4), image * 1.4, rtol=1e-6)
    gray = jittered(results, monkeypatch, saturation=0.0)
    np.testing.assert_allclose(gray, image.max(-1, keepdims=True).repeat(3, -1), rtol=1e-6)
    both = jittered(results, monkeypatch, brightness=0.1, contrast=0.5)
    np.testing.assert_allclose(both, (image + 25.5) / 2, rtol=1e-6)


@pytest.mark.parametrize("factor", [0.5, 1.2])
def test_saturation_is_that_of_hsv(results, monkeypatch, factor):
    hsv = cv2.cvtColor(results["img"].astype(np.float32) / 255, cv2.COLOR_BGR2HSV)
    hsv[..., 1] *= factor
    expected = cv2.cvtColor(hsv, cv2.COLOR_HSV2BGR) * 255
    np.testing.assert_allclose(jittered(results, monkeypatch, saturation=factor), expected, atol=0.01)


def test_jitters_differ_stay_in_their_range_and_leave_the_truth(results):
    np.random.seed(0)
    transform = RandomColorJitter(0.2, (0.6, 1.4), (0.5, 1.2))
    draws = [transform._draw() for _ in range(600)]
    for name, low, high in (("brightness", -0.2, 0.2), ("contrast", 0.6, 1.4), ("saturation", 0.5, 1.2)):
        values = [draw[name] for draw in draws if draw[name] is not None]
        assert abs(len(values) / 600 - 0.5) < 0.08
        assert low <= min(values) < low + 0.05 < high - 0.05 < max(values) <= high
    after = transform(copy.deepcopy(results))
    check(after)
    assert after["img"].dtype == np.float32
    assert (after["gt_bboxes"] == results["gt_bboxes"]).all()


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"brightness": 32}, "brightness must lie in 0 to 1, but got 32"),
        ({"prob": -0.5}, "prob must lie in 0 to 1, but got -0.5"),
        ({"contrast": (1.4, 0.6)}, r"contrast must be \(smallest, largest\) factor"),
        ({"saturation": [1.0]}, r"saturation must be \(smallest, largest\) factor"),
    ],
)
def test_jitter_names_what_is_wrong(keys, message):
    with pytest.raises(ValueError, match=message):
        RandomColorJitter(**keys)
