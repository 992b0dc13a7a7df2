"""What a measurement was made on, and with what."""

from __future__ import annotations

import os
import platform
import shlex
import sys
from importlib import metadata
from pathlib import Path

import torch

from densehead.ops.backend import mmcv_ops
from densehead.version import __version__

# Of one import several distributions may be installed; the first that is there counts
DISTRIBUTIONS = {
    "mmcv": ("mmcv", "onedl-mmcv", "mmcv-lite"),
    "mmengine": ("mmengine", "onedl-mmengine"),
    "mmdet": ("mmdet", "onedl-mmdetection"),
    "torchvision": ("torchvision",),
    "triton": ("triton",),
}


def describe(device: str) -> dict:
    """Return the machine, the versions and the command of this process."""
    return {
        "cpu": _cpu_model(),
        "cores": _cores(),
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if device != "cpu" else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "densehead": __version__,
        "torch": torch.__version__,
        **{name: _version(names) for name, names in DISTRIBUTIONS.items()},
        "mmcv_ops": mmcv_ops() is not None,
        "command": command(),
    }


def command() -> str:
    """Return the command line of this process, from the clone's root, without where the figures went."""
    words = iter(sys.argv[1:])
    kept = []
    for word in words:
        if word == "--out":
            next(words, None)
        elif not word.startswith("--out="):
            kept.append(os.path.relpath(word) if os.path.isabs(word) else word)
    return shlex.join(["python", f"tools/{Path(sys.argv[0]).name}", *kept])


def check_device(device: str) -> None:
    """Raise a ValueError where there is no such device."""
    if device != "cpu" and not torch.cuda.is_available():
        raise ValueError(f"--device {device} needs a GPU that PyTorch can use, and there is none: take --device cpu")


def _version(names: tuple[str, ...]) -> str | None:
    for name in names:
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    return None


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
