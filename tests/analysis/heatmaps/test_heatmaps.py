from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from densehead.analysis.heatmaps import draw_heatmaps, read_levels
from densehead.analysis.heatmaps.plots import overlay
from densehead.visualization.plots import SHEET_GAP
from tests.models.heads.heads import CLASSES, CONFIGS, SIZES, STRIDES, build, features

WITHOUT_QUALITY = ("GFLHead", "VFNetHead", "NanoDetPlusHead")


def read(name, **options):
    head = build(name).eval()
    feats = features(1)
    with torch.no_grad():
        maps = head(feats)
    return head, feats, maps, read_levels(head, feats, maps, **options)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_head(name):
    """The maps say what detections are made of: the best joined score is that of the best candidate."""
    head, feats, maps, levels = read(name)
    assert [level.stride for level in levels] == [(stride, stride) for stride in STRIDES]
    has_quality = not name.startswith(WITHOUT_QUALITY)
    for level, size, feature in zip(levels, SIZES, feats):
        assert level.feature.shape == level.score.shape == size
        np.testing.assert_allclose(level.feature, feature[0].abs().mean(0).numpy(), rtol=1e-5)
        assert (level.quality is not None) == (level.joined is not None) == has_quality
        assert 0 <= level.best_class["score"] < CLASSES
    cfg = dict(head.test_cfg, score_thr=0.0, nms_pre=-1)
    metas = [dict(img_shape=(96, 128), scale_factor=(1, 1))]
    found = head.predict_by_feat(*maps, batch_img_metas=metas, cfg=cfg, with_nms=False)[0]
    best = max((level.joined if has_quality else level.score).max() for level in levels)
    assert found.scores.max().item() == pytest.approx(best, rel=1e-5)
    top = found.labels[found.scores.argmax()].item()
    key = "joined" if has_quality else "score"
    assert top in [
        level.best_class[key] for level in levels if getattr(level, key).max() == pytest.approx(best, rel=1e-5)
    ]


@pytest.mark.parametrize("name", ["FCOSHead", "PAAHead-anchors", "NanoDetPlusHead"])
def test_one_class_is_a_part_of_all(name):
    *_, every = read(name)
    of_each = [read(name, label=label)[-1] for label in range(CLASSES)]
    for number, level in enumerate(every):
        np.testing.assert_allclose(np.max([levels[number].score for levels in of_each], 0), level.score)
    assert [levels[0].best_class["score"] for levels in of_each] == list(range(CLASSES))


def test_softmax_leaves_the_background_out():
    cross_entropy = dict(type="CrossEntropyLoss", use_sigmoid=False)
    head = build("FCOSHead", loss_cls=cross_entropy).eval()
    feats = features(1)
    maps = head(feats)
    (level, *_) = read_levels(head, feats, maps)
    want = maps[0][0][0].softmax(0)[:-1].amax(0)
    np.testing.assert_allclose(level.score, want.detach().numpy(), rtol=1e-5)


def test_first_component_tells_two_kinds_of_places_apart():
    """Places of a bright object among dark ones differ along one direction, whatever the noise in the others."""
    head, feats, maps, _ = read("GFLHead")
    rng = torch.Generator().manual_seed(0)
    feature = 0.1 * torch.randn(1, 8, *SIZES[0], generator=rng)
    direction = torch.randn(8, generator=rng)
    feature[0, :, 2:5, 3:7] += 5 * direction[:, None, None]
    (level, *_) = read_levels(head, [feature, *feats[1:]], maps, feature="pca")
    inside = np.zeros(SIZES[0], dtype=bool)
    inside[2:5, 3:7] = True
    assert level.feature[inside].min() > level.feature[~inside].max() + 1
    with pytest.raises(ValueError, match=r"feature must be one of \('mean', 'pca'\), but got 'max'"):
        read_levels(head, feats, maps, feature="max")


def test_places_lie_on_their_pixels():
    """A 4 x 6 picture at twice its size; places of 2 x 3 pixels."""
    base = np.zeros((8, 12, 3), dtype=np.uint8)
    heat = np.array([[0.0, 1.0], [0.0, 0.0]])
    picture = overlay(base, heat, (3, 2), 2.0).sum(2)
    bright = picture == picture.max()
    assert bright[:4, 6:].all()
    assert not bright[4:].any()
    assert not bright[:, :6].any()


@pytest.mark.parametrize(("name", "rows"), [("FCOSHead", 4), ("GFLHead", 2)])
def test_sheet(name, rows, tmp_path, monkeypatch):
    from densehead.analysis.heatmaps import plots

    titles = []
    original = plots.contact_sheet
    monkeypatch.setattr(plots, "contact_sheet", lambda *a, **k: (titles.extend(k["titles"]), original(*a, **k))[1])
    *_, levels = read(name)
    picture = np.full((96, 128, 3), 120, dtype=np.uint8)
    file = draw_heatmaps(picture, picture, levels, list("abcde"), tmp_path / "sheet.png", title="x")
    with Image.open(file) as sheet:
        assert sheet.width == 4 * (256 + SHEET_GAP) + SHEET_GAP
    assert len(titles) == 4 * rows
    assert titles[0] == "x"
    assert titles[5].startswith("class score, stride 8: up to 0.")
    assert titles[5].endswith(f"({'abcde'[levels[0].best_class['score']]})")
