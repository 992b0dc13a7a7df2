"""Images of a config's data set as its network gets to see them, one at a time and chosen by name or number."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.config import Config

from densehead.apis.config import transform_name
from densehead.arguments import near
from densehead.engine.checks import check_sections
from densehead.engine.hooks.seeds import SeededFetch, SeededIndex, mix
from densehead.registry import DATASETS

SPLITS = ("train", "val")
TRIES = 10  # epochs whose augmentation is tried where one leaves nothing of an image


def build_dataset(cfg: Config, split: str = "train", *, augment: bool = True) -> Any:
    """Build the data set that a config trains or validates on, with truth in the pixels of the network's input.

    Args:
        cfg: of a detector.
        split: ``'train'`` or ``'val'``.
        augment: whether training images go through the training's pipeline; otherwise, and for validation, they go
            through the pipeline of the validation, with the annotations read before anything is resized.

    Raises:
        ValueError: another split, or the config has no data of it.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, but got {split!r}")
    loader = f"{split}_dataloader"
    check_sections(cfg, [loader], cfg.filename)
    dataset = copy.deepcopy(cfg[loader].dataset)
    if split == "train" and not augment:
        check_sections(cfg, ["val_dataloader"], cfg.filename)
        as_validated = next(sources(cfg.val_dataloader.dataset)).pipeline
        for part in sources(dataset):
            part.pipeline = with_truth(as_validated)
    elif split == "val":
        for part in sources(dataset):
            part.pipeline = with_truth(part.pipeline)
    return DATASETS.build(dataset)


def with_truth(pipeline: Sequence[Mapping]) -> list[dict]:
    """Return a pipeline that reads the annotations right after the image, so that boxes follow all that comes."""
    steps = [copy.deepcopy(dict(step)) for step in pipeline]
    reads = [step for step in steps if transform_name(step) == "LoadAnnotations"]
    first, *others = [step for step in steps if transform_name(step) != "LoadAnnotations"]
    return [first, *(reads or [{"type": "LoadAnnotations", "with_bbox": True}]), *others]


def choose_images(
    dataset: Any, *, images: Sequence[str] = (), indices: Sequence[int] = (), num: int | None = None
) -> list[int]:
    """Return the indices of images of a data set.

    Args:
        dataset: a data set, whose annotations may be unread yet.
        images: files, as paths, as names with or without their ending.
        indices: numbers of images in the data set; negative ones count from the end.
        num: so many images, spread evenly over the data set; all if None. Without ``images`` and ``indices`` only.

    Raises:
        ValueError: there is no such image, or a name stands for several.
    """
    count = len(dataset)
    if images:
        return _find(dataset, images)
    for index in indices:
        if not -count <= index < count:
            raise ValueError(f"--index {index}: the data set has {count} images, 0 to {count - 1}")
    if indices:
        return [index % count for index in indices]
    if num is not None and num < 1:
        raise ValueError(f"--num must be at least 1, but got {num}")
    num = count if num is None else min(num, count)
    return np.linspace(0, count - 1, num).round().astype(int).tolist()


def load_sample(dataset: Any, index: int, seed: int) -> dict:
    """Return an image and its sample as the data set's pipeline packs them: ``inputs`` (C, H, W), ``data_samples``.

    The augmentation is that of a training's first epoch with ``randomness.seed=seed``, or of the first epoch that
    leaves an object of the image, where a pipeline drops images without.

    Raises:
        ValueError: it leaves nothing of the image in ten epochs.
    """
    sample = try_sample(dataset, index, seed)
    if sample is not None:
        return sample
    path = dataset.get_data_info(index)["img_path"]
    raise ValueError(
        f"{path}: the pipeline drops this image, for its augmentation leaves no object of it in any of {TRIES} epochs; "
        "--no-augment shows it as it is"
    )


def try_sample(dataset: Any, index: int, seed: int) -> dict | None:
    """Return what :func:`load_sample` does, or None where the pipeline leaves nothing of the image."""
    path = dataset.get_data_info(index)["img_path"]
    fetch = SeededFetch(dataset)
    for epoch in range(TRIES):
        sample = fetch([SeededIndex(index, mix(seed, epoch, index))])[0]
        if sample["data_samples"].get("img_path", path) == path:  # else the data set took another image in its place
            return sample
    return None


def _find(dataset: Any, names: Sequence[str]) -> list[int]:
    dataset.full_init()
    paths = [dataset.get_data_info(index)["img_path"] for index in range(len(dataset))]
    known: dict[str, dict[str, int]] = {}  # {way of writing it: {path: first index}}
    for index, path in enumerate(paths):
        name = os.path.basename(path)
        for spelling in {os.path.abspath(path), path, name, os.path.splitext(name)[0]}:
            known.setdefault(spelling, {}).setdefault(path, index)
    found = []
    for name in names:
        matches = known.get(name) or known.get(os.path.abspath(name)) or {}
        if len(matches) > 1:
            raise ValueError(f"--images {name} may be any of {', '.join(list(matches)[:3])}: give its path")
        if not matches:
            hint = near(os.path.basename(name), map(os.path.basename, paths)) or f" The first of them is {paths[0]}"
            raise ValueError(f"--images {name}: none of the {len(paths)} images of the data set has this name.{hint}")
        found += matches.values()
    return found


def sources(dataset: Config) -> Iterator[Config]:
    """Yield the configs of data sets with images, out of the wrappers around them."""
    if "dataset" in dataset:
        yield from sources(dataset.dataset)
    elif "datasets" in dataset:
        for part in dataset.datasets:
            yield from sources(part)
    else:
        yield dataset
