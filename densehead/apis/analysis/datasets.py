"""The data sets of a config, as they are trained on or as they are tested."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope

from densehead.apis.analysis.samples import sources, with_truth
from densehead.apis.config import tested_dataset
from densehead.engine.checks import check_sections
from densehead.registry import DATASETS, SCOPE

SPLITS = ("train", "val", "test")


def build_dataset(cfg: Config, split: str) -> Any:
    """Build the data set of ``<split>_dataloader`` as the config has it, with its augmentation.

    Where it is tested on, annotations are read before anything is resized, so that boxes follow the image.

    Args:
        cfg: stays as it is.
        split: one of :data:`SPLITS`.

    Raises:
        ValueError: the config has no such data loader, or none with a data set.
    """
    dataset = copy.deepcopy(_dataset_config(cfg, split))
    if split != "train":
        for part in sources(dataset):
            if part.get("pipeline"):
                part.pipeline = with_truth(part.pipeline)
    return _build(cfg, dataset)


def build_tested_dataset(cfg: Config, split: str) -> Any:
    """Build the data set of ``<split>_dataloader`` to be tested on: images as they are, all of them.

    Of the training set the wrappers that repeat or mix images are left out, and the pipeline is that of the test set.

    Args:
        cfg: stays as it is.
        split: one of :data:`SPLITS`.

    Raises:
        ValueError: the config has no such data loader.
    """
    dataset = copy.deepcopy(_dataset_config(cfg, split))
    if split == "train":
        check_sections(cfg, ["test_dataloader"], cfg.filename)
        dataset = _as_tested(dataset, tested_dataset(cfg).pipeline)
    return _build(cfg, dataset)


def _dataset_config(cfg: Config, split: str) -> ConfigDict:
    loader = f"{split}_dataloader"
    check_sections(cfg, [loader], cfg.filename)
    if "dataset" not in cfg[loader]:
        raise ValueError(f"{cfg.filename or 'the config'}: {loader} has no dataset")
    return cfg[loader].dataset


def _as_tested(dataset: ConfigDict, pipeline: list) -> ConfigDict:
    while "dataset" in dataset:
        dataset = dataset.dataset
    if "datasets" in dataset:
        dataset.datasets = [_as_tested(one, pipeline) for one in dataset.datasets]
    else:
        dataset.update(pipeline=copy.deepcopy(pipeline), test_mode=True)
    return dataset


def _build(cfg: Mapping, dataset: ConfigDict) -> Any:
    init_default_scope(cfg.get("default_scope") or SCOPE)
    return DATASETS.build(dataset)
