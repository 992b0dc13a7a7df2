"""What PyTorch's reader that runs no code may build of a checkpoint besides tensors."""

from __future__ import annotations

from pickle import UnpicklingError

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from densehead.version import parse_version


def safe_globals() -> list:
    """Return what mmengine's runner saves beside weights: log buffers and NumPy numbers, for
    :func:`torch.serialization.safe_globals`; nothing for a PyTorch before 2.6, which has no such list.

    NumPy 1 and 2 write the same functions under different names, and a checkpoint may be of the other NumPy.
    """
    if parse_version(torch.__version__) < (2, 6):
        return []
    core = np._core if hasattr(np, "_core") else np.core
    functions = {"_reconstruct": core.multiarray._reconstruct, "scalar": core.multiarray.scalar}
    renamed = [(f, f"numpy.{home}.multiarray.{name}") for name, f in functions.items() for home in ("core", "_core")]
    kinds = {type(np.dtype(kind)) for kind in (np.uint32, np.int64, np.float32, np.float64)}
    return [HistoryBuffer, np.ndarray, np.dtype, *kinds, *renamed, (_method_of_history, "builtins.getattr")]


def _method_of_history(owner: type, name: str) -> object:
    """Stand in for ``getattr``, which a history is written with, in this one use."""
    if owner is not HistoryBuffer or name.startswith("_"):
        raise UnpicklingError(f"a checkpoint asks for {name!r} of {owner!r}, which none of mmengine does")
    return getattr(owner, name)
