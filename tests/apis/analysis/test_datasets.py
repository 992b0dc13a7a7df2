from __future__ import annotations

import pytest

from densehead.apis.analysis.datasets import build_dataset, build_tested_dataset


def names(dataset):
    return [type(one).__name__ for one in dataset.pipeline.transforms]


def test_training_set_as_it_is_trained_on_and_as_it_is_tested_on(config):
    assert "RandomFlip" in names(build_dataset(config, "train"))
    tested = build_tested_dataset(config, "train")
    assert names(tested) == names(build_tested_dataset(config, "test"))
    assert names(tested) == ["LoadImageFromFile", "Resize", "LoadAnnotations", "PackDetInputs"]
    assert names(build_dataset(config, "test")) == ["LoadImageFromFile", "LoadAnnotations", "Resize", "PackDetInputs"]
    assert tested.test_mode
    assert "train" in tested.ann_file
    assert "RandomFlip" in str(config.train_dataloader.dataset.pipeline)  # the config stays


def test_wrappers_that_repeat_are_left_out(config):
    inner = config.train_dataloader.dataset
    config.train_dataloader.dataset = dict(type="RepeatDataset", times=3, dataset=inner)
    assert len(build_dataset(config, "train")) == 24
    assert len(build_tested_dataset(config, "train")) == 8
    config.train_dataloader.dataset = dict(type="ConcatDataset", datasets=[inner, dict(inner, seed=1)])
    joined = build_tested_dataset(config, "train")
    assert len(joined) == 16
    assert all(names(one) == names(joined.datasets[0]) and one.test_mode for one in joined.datasets)


def test_what_is_missing_is_named(config):
    config.val_dataloader = None
    with pytest.raises(ValueError, match="has no val_dataloader"):
        build_dataset(config, "val")
