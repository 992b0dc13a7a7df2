"""Weights from a file or an address: found, read without running what the file says, and checked for their fit."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from urllib.parse import urlparse

import torch
import torchvision
from mmengine.dist import barrier, get_rank
from mmengine.logging import print_log
from mmengine.model.weight_init import update_init_info
from mmengine.runner.checkpoint import get_deprecated_model_names, get_external_models, load_state_dict
from torch import Tensor, nn

from densehead.arguments import near
from densehead.safe_load import read_checkpoint
from densehead.typing import ConfigDict

__all__ = ["init_weights", "read_weights", "resolve"]


def init_weights(module: nn.Module, initialise: Callable[[], None], *, key: str) -> None:
    """Initialise a module as its ``init_cfg`` says, ``Pretrained`` weights last.

    The checkpoint may be a local file, ``torchvision://resnet50`` (a model of torchvision; one of its weights with
    ``torchvision://resnet50.imagenet1k_v2``), ``open-mmlab://detectron2/resnet50_caffe`` (a name of mmengine's list),
    or an ``https://`` address. ``prefix`` picks a part of the file.

    Args:
        module: an mmengine ``BaseModule``.
        initialise: its parent's ``init_weights``.
        key: name of its ``init_cfg`` in the config, for error messages.

    Raises:
        FileNotFoundError: no such file.
        ConnectionError: an address that cannot be reached.
        ValueError: an unknown name, a file that is no checkpoint, or one of another architecture.
    """
    configured = module.init_cfg
    cfgs = [configured] if isinstance(configured, Mapping) else configured or []
    pretrained = [] if module.is_init else [cfg for cfg in cfgs if cfg.get("type") == "Pretrained"]
    module.init_cfg = [cfg for cfg in cfgs if cfg.get("type") != "Pretrained"]
    try:
        initialise()
    finally:
        module.init_cfg = configured
    for cfg in pretrained:
        _load_pretrained(module, cfg, key)


def _load_pretrained(module: nn.Module, cfg: ConfigDict, key: str) -> None:
    checkpoint = cfg["checkpoint"]
    path = resolve(checkpoint, key=key)
    weights = read_weights(path, prefix=cfg.get("prefix"), key=key)
    wanted = {name: value for name, value in module.state_dict().items() if not name.endswith("num_batches_tracked")}
    fitting = [name for name, value in wanted.items() if name in weights and weights[name].shape == value.shape]
    if len(fitting) < len(wanted) / 2:
        raise ValueError(
            f"{key}: {checkpoint!r} is a checkpoint of another architecture: it holds {len(fitting)} of the "
            f"{len(wanted)} tensors of this {type(module).__name__} under the same name with the same shape. It begins "
            f"with {', '.join(list(weights)[:3])}; expected {', '.join(list(wanted)[:3])}. Is it the checkpoint of a "
            "whole detector (set prefix='backbone'), or of another depth or width?"
        )
    print_log(f"{key}: weights from {checkpoint} ({path})", logger="current")
    # a classifier's last layers (conv5 is ShuffleNet's) are never part of a backbone: nothing to warn of
    weights = {name: value for name, value in weights.items() if not name.startswith(("fc.", "conv5."))}
    load_state_dict(module, weights, strict=False, logger="current")
    if hasattr(module, "_params_init_info"):
        update_init_info(module, init_info=f"Pretrained: {checkpoint}")


def resolve(checkpoint: str, *, key: str) -> Path:
    """Return the local file of a checkpoint; an address is downloaded once, into torch.hub's cache.

    Args:
        checkpoint: see :func:`init_weights`.
        key: the config key that asked for it, for error messages.

    Raises:
        FileNotFoundError, ConnectionError, ValueError: see :func:`init_weights`.
    """
    scheme, separator, name = checkpoint.partition("://")
    if not separator:
        path = Path(checkpoint).expanduser()
        if not path.is_file():
            raise FileNotFoundError(f"{key}: there is no checkpoint file {checkpoint!r} (looked for {path.absolute()})")
        return path
    if scheme in ("torchvision", "modelzoo"):
        address = _torchvision_address(name, key)
    elif scheme in ("open-mmlab", "openmmlab"):
        name = get_deprecated_model_names().get(name, name)
        address = _lookup(get_external_models(), name, f"{key}: {scheme}://")
    elif scheme in ("http", "https"):
        address = checkpoint
    else:
        raise ValueError(
            f"{key}: checkpoint must be a local file or begin with torchvision://, open-mmlab:// or https://, "
            f"but got {checkpoint!r}"
        )
    return _download(address, checkpoint, key)


def _torchvision_address(name: str, key: str) -> str:
    model, _, version = name.lower().partition(".")
    model = model.removesuffix("_weights")
    known = dict.fromkeys(torchvision.models.list_models(torchvision.models))
    _lookup(known, model, f"{key}: torchvision://")
    weights = torchvision.models.get_model_weights(model)
    members = {member.lower(): entry for member, entry in weights.__members__.items()}
    return _lookup(members, version or "imagenet1k_v1", f"{key}: torchvision://{model}.").url


def _lookup(known: Mapping[str, object], name: str, where: str):
    if name not in known:
        hint = near(name, known) or f" There are {', '.join(sorted(known)[:10])} and more"
        raise ValueError(f"{where}{name} is not known.{hint}")
    return known[name]


def _download(address: str, checkpoint: str, key: str) -> Path:
    """Fetch a file; the other ranks wait for the first one to put it into the cache that they may share."""
    path = Path(torch.hub.get_dir(), "checkpoints", Path(urlparse(address).path).name)
    try:
        if get_rank() == 0:
            try:
                _fetch(address, path)
            finally:
                barrier()
        else:
            barrier()
            _fetch(address, path)
    except (OSError, HTTPException) as error:
        option = "model." + key.removeprefix("model.")
        raise ConnectionError(
            f"{key} asks for {checkpoint!r}, but {address} cannot be fetched ({error}). Fetch it elsewhere and put it "
            f"at {path}; or name a local file in the config or after --cfg-options: "
            f"{option}.checkpoint=/path/to/file.pth; or train from scratch: {option}=None"
        ) from None
    return path


def _fetch(address: str, path: Path) -> None:
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        print_log(f"Download {address} to {path}", logger="current")
        torch.hub.download_url_to_file(address, str(path), progress=sys.stderr.isatty())


def read_weights(
    path: str | Path, *, prefix: str | None = None, key: str = "checkpoint", unread: str | None = None
) -> dict[str, Tensor]:
    """Read the state dict of a checkpoint file, on the CPU, with the reader that runs no code of the file.

    Args:
        path: a file of ``torch.save``: a state dict, or a dict with one under ``state_dict`` or ``model``.
        prefix: return only names that begin with it, without it.
        key: who asks for it, for error messages.
        unread: see :func:`densehead.safe_load.read_checkpoint`.

    Raises:
        ValueError: the file is no checkpoint, holds objects that may run code, or has nothing under ``prefix``.
    """
    content = read_checkpoint(path, key=key, unread=unread)
    for name in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(name), Mapping):
            content = content[name]
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{key}: {path} holds no state dict (names with tensors), but a {type(content).__name__}")
    weights = {name.removeprefix("module."): value for name, value in content.items()}
    if prefix is None:
        return weights
    prefix = prefix.rstrip(".") + "."
    part = {name.removeprefix(prefix): value for name, value in weights.items() if name.startswith(prefix)}
    if not part:
        first = ", ".join(sorted({name.partition(".")[0] for name in weights}))
        raise ValueError(f"{key}: nothing in {path} begins with prefix={prefix!r}; its names begin with {first}")
    return part
