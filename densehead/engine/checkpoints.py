"""Checkpoints for a model: read safely from wherever they are, and brought to today's names.

What differs between mmdetection 2.x and 3.x in the names of the parameters of the detectors here:

- The offsets of a deformable convolution are a layer of it (``conv2.conv_offset``); before mmcv 0.2 they stood beside
  it (``conv2_offset``).
- The last layers of FCOS are ``conv_cls``, ``conv_reg``, ``conv_centerness``; before 2.2 ``fcos_cls`` and so on.
- Averages of the weights (EMAHook) are a part of their own; 2.x had them among the model's buffers
  (``ema_backbone_conv1_weight``), and saved the averages as the weights themselves, the others as the buffers.
- A dense head that was trained as the first stage of a detector is its ``rpn_head``.

All other names are the same.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mmengine import fileio
from mmengine.logging import print_log
from torch import nn

from densehead.damage import damage_of
from densehead.engine.checks import state_of
from densehead.models.backbones.pretrained import resolve
from densehead.safe_load import read_checkpoint

__all__ = ["load_for", "rename_parameters"]

# Schemes that are looked up or downloaded; other ones are file systems of mmengine's
_ADDRESSES = ("", "torchvision", "modelzoo", "open-mmlab", "openmmlab", "http", "https")
_RENAMED = (
    (re.compile(r"_offset\.(weight|bias)$"), r".conv_offset.\1"),
    (re.compile(r"\.fcos_(cls|reg|centerness)\."), r".conv_\1."),
    (re.compile(r"^rpn_head\."), "bbox_head."),
)


def load_for(model: nn.Module, file: str, *, map_location: Any = "cpu", key: str = "load_from") -> dict:
    """Read a checkpoint for a model; nothing is loaded into it yet.

    Names of older versions are today's in the result, and a list of them is logged. The text of a config, which
    mmengine's runners would run to resume, is left out.

    Args:
        model: whose names decide; may be wrapped.
        file: path, name of a model zoo, or address.
        map_location: as for :func:`torch.load`.
        key: who asks for it, for error messages.

    Returns:
        The content of the file, with ``meta['dataset_meta']`` where it names its classes.

    Raises:
        ValueError: the file is no checkpoint, is damaged, or holds objects that are not read.
        ConnectionError: an address that cannot be reached.
        FileNotFoundError: no such file.
    """
    content = _local(file, key)
    damage = damage_of(content)
    if damage is not None:
        raise ValueError(f"{key}: {file} {damage}. Fetch it again, or take an older one")
    checkpoint = read_checkpoint(content, map_location=map_location, key=key, name=file)
    if not isinstance(checkpoint, dict):
        raise ValueError(f"{key}: {file} must hold a dict with a state_dict, but holds a {type(checkpoint).__name__}")
    renamed, left_out = rename_parameters(model, checkpoint)
    if renamed or left_out:
        lines = [f"  {old} -> {new}" for old, new in renamed] + [f"  {name}: left out" for name in left_out]
        print_log(
            f"{file} has names of an older version; {len(renamed)} are renamed"
            + (f", {len(left_out)} averages of weights left out" if left_out else "")
            + ":\n"
            + "\n".join(lines),
            logger="current",
        )
    _name_classes(checkpoint)
    _forget_config(checkpoint)
    return checkpoint


def rename_parameters(model: nn.Module, checkpoint: dict) -> tuple[list[tuple[str, str]], list[str]]:
    """Give the parameters of a checkpoint today's names, in place, where only these are among those of a model.

    Args:
        model: may be wrapped.
        checkpoint: a state dict, or a dict that has one under ``state_dict``.

    Returns:
        (old, new) names of the renamed ones, and the names of those left out.
    """
    state = checkpoint.get("state_dict", checkpoint)
    if not isinstance(state, dict):
        return [], []
    wanted = state_of(model).keys()
    names = {name.removeprefix("module."): name for name in state if isinstance(name, str)}
    averages = {"ema_" + name.replace(".", "_") for name in names}
    left_out = [name for name in names if name not in wanted and name in averages]
    renamed = []
    for name in names:
        if name not in wanted and name not in averages:
            new = next((one for one in _candidates(name) if one in wanted and one not in names), None)
            if new is not None:
                renamed.append((name, new))
    for name in left_out:
        del state[names[name]]
    for old, new in renamed:
        state[new] = state.pop(names[old])
    return renamed, left_out


def _candidates(name: str, changes: tuple = _RENAMED) -> Iterator[str]:
    """Yield what a parameter may be called today; several changes may have come together, each once."""
    for index, (pattern, new) in enumerate(changes, 1):
        if pattern.search(name):
            changed = pattern.sub(new, name)
            yield changed
            yield from _candidates(changed, changes[index:])


def _local(file: str, key: str) -> Path | io.BytesIO:
    scheme = file.partition("://")[0] if "://" in file else ""
    if scheme not in _ADDRESSES:
        return io.BytesIO(fileio.get(file))
    try:
        return resolve(file, key=key)
    except ConnectionError as error:
        raise ConnectionError(
            f"{key}: {file} cannot be fetched ({error.__context__}). Fetch it elsewhere and name the local file"
        ) from None


def _forget_config(checkpoint: dict) -> None:
    """Leave out the text of a config where mmengine looks for one: it runs that, to compare numbers of GPUs."""
    meta = checkpoint.get("meta")
    if isinstance(meta, Mapping):
        checkpoint["meta"] = {name: value for name, value in meta.items() if name != "config"}


def _name_classes(checkpoint: dict) -> None:
    """Put the classes where mmdetection 3.x has them: 2.x kept them in capitals, beside the rest of the meta data."""
    meta = checkpoint.get("meta")
    if not isinstance(meta, Mapping):
        return
    given = meta.get("dataset_meta") or {name: meta[name] for name in ("CLASSES", "PALETTE") if name in meta}
    if given:
        checkpoint["meta"] = {**meta, "dataset_meta": {name.lower(): value for name, value in given.items()}}
