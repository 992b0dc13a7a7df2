"""Checkpoints of the official NanoDet-Plus (https://github.com/RangiLyu/nanodet), turned into densehead's."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from densehead.apis.config import require_checkpoint
from densehead.engine.checks import compare_states
from densehead.models.backbones.pretrained import read_weights

__all__ = ["convert_checkpoint", "convert_weights"]

PARTS = {"backbone": "backbone", "fpn": "neck", "head": "bbox_head", "aux_fpn": "aux_neck", "aux_head": "aux_head"}
AUXILIARY = ("aux_fpn", "aux_head")
# Packages whose objects PyTorch Lightning keeps beside the weights
LIGHTNING = r"(pytorch_lightning\w*|lightning\w*|torchmetrics|nanodet|yacs|fsspec|omegaconf|argparse)\."
AVERAGED, TRAINED = "avg_model.", "model."


def convert_checkpoint(
    source: str | os.PathLike,
    target: str | os.PathLike,
    *,
    model: nn.Module | None = None,
    averaged: bool = True,
    auxiliary: bool = True,
) -> dict[str, Tensor]:
    """Read an official checkpoint, write ``target`` for ``load_from``, ``tools/test.py`` and the like.

    Args:
        source: a checkpoint of PyTorch Lightning (``.ckpt``), or weights alone (``.pth``).
        target: file to write.
        model: whose parameters the result must have; not checked if None.
        averaged: see :func:`convert_weights`.
        auxiliary: see :func:`convert_weights`.

    Returns:
        The weights that were written.

    Raises:
        FileNotFoundError: there is no ``source``.
        ValueError: it cannot be read, is no checkpoint of NanoDet-Plus, or one of another model than ``model``.
    """
    source, target = Path(source), Path(target)
    require_checkpoint(str(source), "the official checkpoint")
    if source.resolve() == target.resolve():
        raise ValueError(f"{source} would be overwritten by what it is turned into: give that another name")
    weights = read_weights(source, key="the official checkpoint", unread=LIGHTNING)
    try:
        weights = convert_weights(weights, averaged=averaged, auxiliary=auxiliary)
    except ValueError as error:
        raise ValueError(f"{source}: {error}") from None
    difference = compare_states(model, weights) if model is not None else None
    if difference:
        raise ValueError(f"{source} is a checkpoint of another model than that of the config: it {difference}")
    target.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"state_dict": weights, "meta": {"converted_from": source.name}}, target)
    return weights


def convert_weights(
    weights: Mapping[str, Tensor], *, averaged: bool = True, auxiliary: bool = True
) -> dict[str, Tensor]:
    """Return the weights of an official NanoDet-Plus under the names of :class:`~densehead.models.NanoDetPlus`.

    Args:
        weights: the official state dict, with or without the prefixes of the training task.
        averaged: take the moving average of the weights where there is one besides those that were trained; that is
            what the official results are of.
        auxiliary: keep the auxiliary neck and head, with which training can go on. Without them the weights fit a
            model with ``aux_head=None``.

    Raises:
        ValueError: these are no weights of NanoDet-Plus; the message says what they look like.
    """
    own = _own_weights(weights, averaged)
    _check(own)
    converted = {}
    for name, value in own.items():
        part, _, rest = name.partition(".")
        if auxiliary or part not in AUXILIARY:
            converted[f"{PARTS[part]}.{rest}"] = value
    return converted


def _own_weights(weights: Mapping[str, Tensor], averaged: bool) -> dict[str, Tensor]:
    """Return the weights of the detector under their own names, without those of its twin."""
    prefixes = [AVERAGED, TRAINED] if averaged else [TRAINED, AVERAGED]
    for prefix in prefixes:
        part = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
        if part:
            return part
    return dict(weights)


def _check(weights: Mapping[str, Tensor]) -> None:
    """Raise a ValueError that says why weights are not those of NanoDet-Plus."""
    parts = {name.partition(".")[0] for name in weights}
    unknown = sorted(parts - set(PARTS))
    lacking = sorted({"backbone", "fpn", "head"} - parts)
    if unknown or lacking:
        found = f"its names begin with {', '.join(sorted(parts))}" if parts else "it is empty"
        hint = ""
        if {"neck", "bbox_head"} <= parts:
            hint = "; it is a checkpoint of densehead or mmdetection, which needs no conversion"
        raise ValueError(
            f"no checkpoint of the official NanoDet-Plus: {found}, expected backbone, fpn, head, aux_fpn and aux_head"
            f"{hint}"
        )
    if not any(name.startswith("fpn.reduce_layers.") for name in weights) or "head.gfl_reg.0.weight" in weights:
        raise ValueError(
            "this is a checkpoint of NanoDet 0.x, not of NanoDet-Plus (which has fpn.reduce_layers and no "
            "head.gfl_reg): its neck and head are others, and it cannot be converted"
        )
