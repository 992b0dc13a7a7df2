"""Which device has the fused kernels of :mod:`.focal_kernels`: a GPU on which Triton works."""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from densehead.version import parse_version

_DTYPES = (torch.float32, torch.float16, torch.bfloat16)
_OLDEST_TRITON = (3, 3)  # of PyTorch 2.7; older ones do not take what the kernels are written in
_MOST = 1 << 31  # elements, beyond which the kernels' 32-bit counters end


def fused_kernels(logits: Tensor) -> ModuleType | None:
    """Return :mod:`.focal_kernels` where it can compute with ``logits``, or None; its functions take them as they lie.

    Triton comes with PyTorch for GPUs on Linux. It compiles at the first call, for which it needs a C compiler; where
    there is none, a warning says so once and None comes back, and callers go on in plain PyTorch, as with a Triton
    before 3.3.
    """
    if not logits.is_cuda or logits.dtype not in _DTYPES or logits.numel() >= _MOST:
        return None
    return _kernels(logits.device)


@cache
def _kernels(device: torch.device) -> ModuleType | None:
    if importlib.util.find_spec("triton") is None:
        return None
    try:
        if parse_version(importlib.import_module("triton").__version__) < _OLDEST_TRITON:
            return None
        kernels = importlib.import_module("densehead.ops.focal_kernels")
        one = torch.zeros(1, device=device)
        kernels.focal_background(one, None, None, one, 2.0)
    except Exception as error:  # no compiler, no driver, a GPU that Triton does not know: each raises its own
        warnings.warn(
            f"Triton does not work on {device} ({type(error).__name__}: {error}): losses are computed in plain "
            "PyTorch, with more passes over the maps. Triton needs a C compiler at run time (e.g. gcc, or CC=...).",
            stacklevel=2,
        )
        return None
    return kernels
