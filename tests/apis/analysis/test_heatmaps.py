from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from torch import nn

from densehead.apis import init_detector
from densehead.apis.analysis import heatmaps
from densehead.apis.analysis.heatmaps import class_label, report_heatmaps


@pytest.fixture
def model(config, checkpoint):
    return init_detector(config, checkpoint)


@pytest.fixture
def images(data_root, model):
    from densehead.apis.analysis.datasets import build_dataset

    dataset = build_dataset(model.cfg, "test")
    return [dataset.get_data_info(index)["img_path"] for index in range(2)]


def test_a_sheet_for_each_image(model, images, tmp_path, monkeypatch):
    drawn = []
    original = heatmaps.draw_heatmaps
    monkeypatch.setattr(heatmaps, "draw_heatmaps", lambda *a, **k: (drawn.append((a, k)), original(*a, **k))[1])
    sheets = report_heatmaps(model, images, tmp_path / "out", feature="pca")
    assert [sheet.name for sheet in sheets] == ["000000.png", "000001.png"]
    for sheet, path, ((picture, _, levels, classes, _), _) in zip(sheets, images, drawn):
        with Image.open(sheet) as one, Image.open(path) as image:
            assert one.width > 5 * 256  # the photo and four levels
            seen = np.asarray(image.resize((96, 96), Image.Resampling.BILINEAR)).astype(int)
            assert np.abs(picture - seen).mean() < 1  # as the test pipeline resizes it
        assert [level.score.shape for level in levels] == [(12, 12), (6, 6), (3, 3), (2, 2)]
        assert classes == tuple("0123456789")


def test_images_of_one_name_get_a_sheet_each(model, images, tmp_path):
    sheets = report_heatmaps(model, [images[0], images[0]], tmp_path / "out", label=3)
    assert [sheet.name for sheet in sheets] == ["1_000000.png", "2_000000.png"]
    assert all(sheet.is_file() for sheet in sheets)


def test_what_does_not_fit_is_named(model, images, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.jpg"):
        report_heatmaps(model, [images[0], "absent.jpg"], tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert (class_label(model, None), class_label(model, "7")) == (None, 7)
    with pytest.raises(
        ValueError, match=r"--class 77: the detector has no such class\. Did you mean '7'\? It has 0, 1"
    ):
        class_label(model, "77")
    with pytest.raises(ValueError, match=r"need a detector with a dense head .* Linear has none"):
        report_heatmaps(nn.Linear(1, 1), images, tmp_path / "out")
