"""Detectors for use in one's own program."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from torch import nn

from densehead.apis.config import require_checkpoint, tested_dataset, transform_name
from densehead.apis.options import load_config
from densehead.apis.upgrade import check_spelling
from densehead.engine.checkpoints import load_for
from densehead.engine.checks import compare_states
from densehead.registry import DATASETS, MODELS, SCOPE
from densehead.structures import DetDataSample

Image = str | os.PathLike | np.ndarray


def init_detector(
    config: str | os.PathLike | Config,
    checkpoint: str | None = None,
    palette: str = "none",
    device: str | torch.device = "cpu",
    cfg_options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """Build a detector, load its weights and make it ready to detect.

    The model gets ``cfg`` and ``dataset_meta`` (``classes``, ``palette``: of the checkpoint, else of the test set).

    Args:
        config: config file, or the config itself, which stays as it is.
        checkpoint: file or address of the weights; none are loaded if None.
        palette: for drawing, in place of the checkpoint's; ``'none'`` for that one.
        device: where the model is put.
        cfg_options: overrides of the config, by dotted keys.

    Raises:
        TypeError: ``config`` is something else.
        FileNotFoundError: there is no such config or checkpoint.
        ValueError: the checkpoint cannot be read or is one of another architecture, or the config is written for
            mmdetection 2.x.
    """
    if isinstance(config, str | os.PathLike):
        config = load_config(config, cfg_options)
    elif isinstance(config, Config):
        config = copy.deepcopy(config)
        check_spelling(config, config.filename)
        config.merge_from_dict(dict(cfg_options or {}))
    else:
        raise TypeError(f"config must be a file name or an mmengine Config, but got {type(config).__name__}")
    require_checkpoint(checkpoint, "checkpoint")
    if DefaultScope.get_current_instance() is None:
        init_default_scope(config.get("default_scope") or SCOPE)
    model = revert_sync_batchnorm(MODELS.build(config.model))
    meta = _load(model, checkpoint) if checkpoint is not None else {}
    model.dataset_meta = dict(meta) or _metainfo(config)
    if palette != "none":
        model.dataset_meta["palette"] = palette
    model.cfg = config
    return model.to(device).eval()


def inference_detector(
    model: nn.Module, imgs: Image | Sequence[Image], test_pipeline: Callable[[dict], dict] | None = None
) -> DetDataSample | list[DetDataSample]:
    """Detect objects in images.

    Args:
        model: of :func:`init_detector`.
        imgs: a file or a BGR image (height, width, 3) of bytes, or a list of them.
        test_pipeline: in place of that of the config's test set.

    Returns:
        The sample of each image, a list for a list; its ``pred_instances`` has ``bboxes`` (n, 4) xyxy in pixels of the
        image, ``scores`` and ``labels``.

    Raises:
        TypeError: an image is neither.
    """
    is_batch = isinstance(imgs, list | tuple)
    samples = []
    for image in imgs if is_batch else [imgs]:
        packed = pack_image(model, image, test_pipeline)
        with torch.no_grad():
            found = model.test_step({key: [packed[key]] for key in ("inputs", "data_samples")})
        samples.append(found[0])
    return samples if is_batch else samples[0]


def pack_image(model: nn.Module, image: Image, test_pipeline: Callable[[dict], dict] | None = None) -> dict:
    """Return what the pipeline of a detector makes of an image: ``inputs`` and ``data_samples``.

    Args:
        model: of :func:`init_detector`.
        image: a file or a BGR image (height, width, 3) of bytes.
        test_pipeline: in place of that of the config's test set.

    Raises:
        TypeError: the image is neither.
    """
    pipeline = test_pipeline or _pipeline(model.cfg, isinstance(image, np.ndarray))
    return pipeline(_described(image))


def _load(model: nn.Module, file: str) -> dict:
    """Load the weights; return the ``dataset_meta`` of the checkpoint."""
    checkpoint = load_for(model, file, key="checkpoint")
    difference = compare_states(model, checkpoint)
    if difference:
        raise ValueError(f"{file} is a checkpoint of another architecture: it {difference}")
    _load_checkpoint_to_model(model, checkpoint)
    return (checkpoint.get("meta") or {}).get("dataset_meta") or {}


def _metainfo(config: Config) -> dict:
    """Return the metainfo of the test set, whose files need not be there."""
    loader = config.get("test_dataloader") or config.get("val_dataloader")
    if loader is None:
        return {}
    return dict(DATASETS.build({**copy.deepcopy(loader.dataset), "lazy_init": True}).metainfo)


def _pipeline(config: Config, from_array: bool) -> Compose:
    """Return the transforms of the test set, without those that read a truth."""
    steps = [
        dict(one) for one in tested_dataset(config).pipeline if not transform_name(one).startswith("LoadAnnotations")
    ]
    if from_array:
        steps[0]["type"] = "LoadImageFromNDArray"
    return Compose(steps)


def _described(image: Image) -> dict:
    if isinstance(image, np.ndarray):
        return {"img": image, "img_id": 0}
    if isinstance(image, str | Path | os.PathLike):
        return {"img_path": os.fspath(image), "img_id": 0}
    raise TypeError(f"an image must be a file name or an array, but got {type(image).__name__}")
