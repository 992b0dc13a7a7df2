"""All heads on a photograph with objects of 5 to 500 pixels that overlap: scikit-learn's, with boxes drawn by hand."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import sklearn.datasets

from densehead.analysis.sheet import draw_sheet
from densehead.apis.analysis.assignment import collect_scenes
from tests.engine.tiny import ROOT, tiny_config

HEADS = ("FCOSHead", "ATSSHead", "GFLHead", "VFNetHead", "PAAHead", "AutoAssignHead", "NanoDetPlusHead")
CLASSES = ("pagoda", "roof", "finial", "window", "tree", "island", "boat")
READ = [
    {"type": "LoadImageFromFile"},
    {"type": "LoadAnnotations", "with_bbox": True},
    {"type": "Resize", "scale": (640, 427), "keep_ratio": True},
    {"type": "PackDetInputs"},
]


@pytest.fixture
def config(tmp_path):
    shutil.copy(Path(sklearn.datasets.__file__).parent / "images" / "china.jpg", tmp_path)
    cfg = tiny_config(tmp_path, model__bbox_head__num_classes=len(CLASSES))
    cfg.train_dataloader.dataset = {
        "type": "CocoDataset",
        "ann_file": str(ROOT / "tests" / "data" / "china.json"),
        "data_prefix": {"img": str(tmp_path)},
        "metainfo": {"classes": CLASSES},
        "pipeline": READ,
    }
    return cfg


def test_seven_heads_on_a_photograph(config):
    (scene,) = collect_scenes(config, heads=HEADS)
    assert scene.image.shape == (427, 640, 3)
    records = {title.partition(" ")[0]: record for title, record in scene.records.items()}
    assert tuple(records) == HEADS
    for record in records.values():
        assert len(record.boxes) == 40
        assert np.bincount(record.labels).tolist() == [1, 4, 1, 14, 5, 1, 14]
        assert len(record.prior_index) > 40
        assert (record.counts().sum(0) > 0).sum() >= 2
    # boats are smaller than the cells of the finest level, and no point lies in some of them
    missed, is_boat = records["FCOSHead"].is_missed(), record.labels == 6
    assert missed[is_boat].mean() > 3 * missed[~is_boat].mean()
    figure = draw_sheet(scene)
    assert len(figure.axes) == 1 + 7 * 5 + 1
