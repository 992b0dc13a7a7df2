from __future__ import annotations

import copy

import numpy as np

from densehead.datasets.transforms import PhotoMetricDistortion
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
