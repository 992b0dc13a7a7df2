"""From a config to scenes: images of its data set, and what heads, assigners or checkpoints make of their objects."""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmcv.transforms import Normalize
from mmengine.config import Config

from densehead.analysis import Scene
from densehead.apis.analysis.columns import Column, build_columns, needs_pairs, read_columns
from densehead.apis.analysis.inputs import normalisation_of, transforms_of
from densehead.apis.analysis.samples import build_dataset, choose_images, load_sample
from densehead.engine.checks import check_classes, check_sections
from densehead.visualization.inputs import as_picture


@dataclass(frozen=True)
class Comparison:
    """What is compared, and on which images; everything is checked and built.

    Attributes:
        columns: of :func:`.columns.build_columns`.
        dataset: of :func:`.samples.build_dataset`.
        indices: of the images in it.
        seed: of augmentation.
    """

    columns: Sequence[Column]
    dataset: Any
    indices: Sequence[int]
    seed: int

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, by label."""
        return tuple(self.dataset.metainfo["classes"])

    def scenes(self) -> Iterator[Scene]:
        """Yield the images with what is assigned on them, of which one is in memory at a time."""
        normalisation = normalisation_of(transforms_of(self.dataset))
        for index in self.indices:
            sample = load_sample(self.dataset, index, self.seed)
            yield read_scene(self.columns, sample, self.class_names, normalisation)


def prepare_comparison(
    cfg: Config,
    *,
    checkpoints: Sequence[str] = (),
    heads: Sequence[str] = (),
    assigners: Sequence[str] = (),
    images: Sequence[str] = (),
    indices: Sequence[int] = (),
    num: int | None = None,
    split: str = "train",
    augment: bool = True,
    seed: int | None = None,
    device: str | torch.device = "cpu",
) -> Comparison:
    """Build what is compared on images of a config's data set.

    Args:
        cfg: of a detector, with data loaders.
        checkpoints, heads, assigners: what is compared; see :func:`.columns.build_columns`.
        images, indices, num: which images, all if none is given; see :func:`.samples.choose_images`.
        split, augment: of which data and through which pipeline; see :func:`.samples.build_dataset`.
        seed: of augmentation and of drawn weights; ``randomness.seed`` of the config, or 0, if None. Images look as in
            the first epoch of a training with this seed.
        device: where the network runs.

    Raises:
        ValueError, FileNotFoundError: what cannot be shown; see the functions above.
    """
    check_sections(cfg, ["model"], cfg.filename)
    seed = (cfg.get("randomness") or {}).get("seed") if seed is None else seed
    seed = seed or 0
    columns = build_columns(cfg, checkpoints=checkpoints, heads=heads, assigners=assigners, seed=seed, device=device)
    dataset = build_dataset(cfg, split, augment=augment)
    check_classes(columns[0].detector, dataset, f"{split}_dataloader.dataset")
    return Comparison(columns, dataset, choose_images(dataset, images=images, indices=indices, num=num), seed)


def collect_scenes(cfg: Config, **options: Any) -> Iterator[Scene]:
    """Yield images of a config's data set with the assignments that the losses of heads are computed on.

    One image is in memory at a time. Everything is checked and built before the first is yielded.

    Args:
        cfg: of a detector, with data loaders.
        options: see :func:`prepare_comparison`.

    Raises:
        ValueError, FileNotFoundError: what cannot be shown.
    """
    return prepare_comparison(cfg, **options).scenes()


def read_scene(
    columns: Sequence[Column], packed: dict, class_names: Sequence[str], normalisation: Normalize | None = None
) -> Scene:
    """Return an image and what each column assigns on it.

    Args:
        columns: of :func:`.columns.build_columns`.
        packed: ``inputs`` (C, H, W) and ``data_samples``, as a pipeline packs them.
        class_names: of the data set.
        normalisation: of the pipeline, where it normalises and not the data preprocessor.
    """
    preprocessor = columns[0].detector.data_preprocessor
    batch = batch_of(columns, packed)
    height, width = batch["data_samples"][0].img_shape[:2]
    return Scene(
        image=as_picture(batch["inputs"][0, :, :height, :width], preprocessor, normalisation),
        name=os.path.basename(packed["data_samples"].get("img_path", "")),
        class_names=tuple(class_names),
        records=read_columns(columns, batch["inputs"], batch["data_samples"]),
    )


def batch_of(columns: Sequence[Column], packed: dict) -> dict:
    """Return what the data preprocessor makes of an image, alone or (:func:`.columns.needs_pairs`) twice."""
    samples = [copy.deepcopy(packed["data_samples"]) for _ in range(1 + needs_pairs(columns))]
    data = {"inputs": [packed["inputs"]] * len(samples), "data_samples": samples}
    return columns[0].detector.data_preprocessor(data, training=True)
