"""Checks before a run: that the config is whole, and that head, data set and checkpoint belong together."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from mmengine.model import BaseTTAModel, is_model_wrapper
from torch import Tensor, nn

from densehead.arguments import near

TRAIN_SECTIONS = ("model", "train_dataloader", "train_cfg", "optim_wrapper")
TEST_SECTIONS = ("model", "test_dataloader", "test_cfg", "test_evaluator")
# How many names of a list are shown
SHOWN = 4


def check_sections(cfg: Mapping, sections: Iterable[str], file: str | None = None) -> None:
    """Raise a ValueError that names the top-level keys that a config lacks.

    Args:
        cfg: the whole config.
        sections: the keys that the run needs.
        file: the config file, for the message.
    """
    absent = [key for key in sections if cfg.get(key) is None]
    if not absent:
        return
    hints = "".join(near(key, [one for one in cfg if one not in sections], 1) for key in absent)
    raise ValueError(
        f"{file or 'the config'} has no {', '.join(absent)}, which this run needs.{hints} "
        "The bases in configs/_base_ show what belongs there"
    )


def check_classes(model: nn.Module, dataset: Any, key: str) -> None:
    """Raise a ValueError where a head's ``num_classes`` is not the number of classes of a data set.

    Args:
        model: looked through for modules with ``num_classes`` and ``loss_by_feat``; mere backbones have none.
        dataset: with ``metainfo['classes']``.
        key: of the config, such as ``train_dataloader.dataset``, for the message.
    """
    metainfo = getattr(dataset, "metainfo", None)
    classes = None if metainfo is None else metainfo.get("classes")
    if classes is None:
        raise ValueError(
            f"{key} ({type(dataset).__name__}) does not say its classes: set "
            f"{key}.metainfo=dict(classes=('first', 'second'))"
        )
    if isinstance(classes, str):
        raise ValueError(
            f"{key}.metainfo.classes must be a tuple of names, but got the text {classes!r}: write ({classes!r},)"
        )
    for name, module in unwrapped(model).named_modules():
        count = getattr(module, "num_classes", None)
        if isinstance(count, int) and hasattr(module, "loss_by_feat") and count != len(classes):
            raise ValueError(
                f"model.{name}.num_classes is {count}, but {key} ({type(dataset).__name__}) has {len(classes)} classes "
                f"({_some(classes)}): set model.{name}.num_classes={len(classes)}, or {key}.metainfo.classes to the "
                f"{count} classes that are meant"
            )


@dataclass(frozen=True)
class StateDifference:
    """How the parameters of a checkpoint differ from those of a model.

    Attributes:
        matching: names that both have, in the same shape.
        missing: names that only the model has.
        unexpected: names that only the checkpoint has.
        mismatched: (name, shape in the checkpoint, shape in the model).
    """

    matching: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    mismatched: tuple[tuple[str, tuple, tuple], ...]

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.mismatched)

    def __str__(self) -> str:
        shapes = [f"{name} {theirs} there, {ours} here" for name, theirs, ours in self.mismatched]
        parts = (
            (self.missing, f"lacks {len(self.missing)} of the model's ({_some(self.missing)})"),
            (self.unexpected, f"has {len(self.unexpected)} that the model does not have ({_some(self.unexpected)})"),
            (shapes, f"has {len(shapes)} in another shape ({_some(shapes)})"),
        )
        return "; ".join(text for names, text in parts if names)


def compare_states(model: nn.Module, checkpoint: Mapping) -> StateDifference:
    """Compare the parameters and buffers of a model with those of a loaded checkpoint.

    Args:
        model: may be wrapped for several GPUs or for test-time augmentation.
        checkpoint: a ``state_dict``, or a dict that has one.
    """
    ours = state_of(model)
    theirs = {re.sub(r"^module\.", "", name): value for name, value in checkpoint.get("state_dict", checkpoint).items()}
    # BatchNorm of long ago did not count its batches
    needed = [name for name in ours if name in theirs or not name.endswith("num_batches_tracked")]
    shapes = {name: (_shape(theirs[name]), _shape(ours[name])) for name in needed if name in theirs}
    return StateDifference(
        matching=tuple(name for name, (there, here) in shapes.items() if there == here),
        missing=tuple(name for name in needed if name not in theirs),
        unexpected=tuple(name for name in theirs if name not in ours),
        mismatched=tuple((name, there, here) for name, (there, here) in shapes.items() if there != here),
    )


def unwrapped(model: nn.Module) -> nn.Module:
    """Return the detector itself, without what wraps it for several GPUs or test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def state_of(model: nn.Module) -> Mapping[str, Tensor]:
    """Return the names and shapes of what the detector itself saves, also where processes share it out (FSDP)."""
    whole = getattr(model, "whole_state", None)
    return unwrapped(model).state_dict() if whole is None else whole


def _shape(value: Any) -> tuple:
    return tuple(value.shape) if isinstance(value, Tensor) else ()


def _some(names: Iterable[str]) -> str:
    names = list(names)
    return ", ".join(names[:SHOWN]) + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")
