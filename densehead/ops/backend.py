"""Which library answers for the compiled operators: mmcv where its extension imports, else torchvision.

``mmcv.ops`` and ``torchvision.ops`` are imported in this package and nowhere else.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType

from torch import Tensor

BACKENDS = ("mmcv", "torchvision")
_forced: str | None = None


@cache
def mmcv_ops() -> ModuleType | None:
    """Return ``mmcv.ops``, or None where mmcv has no compiled extension that this PyTorch can load."""
    if importlib.util.find_spec("mmcv") is None or importlib.util.find_spec("mmcv._ext") is None:
        return None
    try:
        return importlib.import_module("mmcv.ops")
    except (ImportError, AssertionError, OSError) as error:  # built for another PyTorch, or for other operators
        warnings.warn(
            f"mmcv has compiled operators, but they do not load ({error}); torchvision's are used instead. "
            "Rebuild mmcv for this PyTorch, or install onedl-mmcv, to be rid of this line.",
            stacklevel=2,
        )
        return None


def backend() -> str:
    """Return ``'mmcv'`` or ``'torchvision'``: who computes nms, soft-nms, deformable convolution and focal loss."""
    if _forced is not None:
        return _forced
    return "torchvision" if mmcv_ops() is None else "mmcv"


def is_forced() -> bool:
    """Return whether the code runs inside :func:`use_backend`."""
    return _forced is not None


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Compute with ``'mmcv'`` or ``'torchvision'`` inside the ``with`` block, to compare the two.

    Raises:
        ValueError: another name.
        RuntimeError: ``'mmcv'`` where mmcv has no compiled operators.
    """
    global _forced
    if name not in BACKENDS:
        raise ValueError(f"backend must be one of {BACKENDS}, but got {name!r}")
    if name == "mmcv" and mmcv_ops() is None:
        raise RuntimeError("mmcv has no compiled operators here (mmcv._ext does not import): use 'torchvision'")
    before, _forced = _forced, name
    try:
        yield
    finally:
        _forced = before


@cache
def _mmcv_has_cuda() -> bool:
    try:
        return mmcv_ops().get_compiling_cuda_version() != "not available"
    except (AttributeError, RuntimeError):
        return False


def mmcv_serves(tensor: Tensor) -> bool:
    """Return whether mmcv's operators are to be used for ``tensor``: an mmcv built for CPU cannot serve a GPU's."""
    return backend() == "mmcv" and (tensor.device.type == "cpu" or _mmcv_has_cuda())
