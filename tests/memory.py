"""Peak memory of tensors, counted allocation by allocation: the same figure on every machine."""

from __future__ import annotations

import weakref

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from densehead.version import parse_version

needs_peak_memory = pytest.mark.skipif(
    parse_version(torch.__version__) < (2, 2), reason="PyTorch 2.1 does not tell when a storage is freed"
)


class PeakMemory(TorchDispatchMode):
    """Counts the bytes of the storages that are born inside and alive at the same time (``peak``).

    What an operator allocates and frees within itself is not seen.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._seen: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        before = {
            leaf.untyped_storage()._cdata for leaf in tree_flatten((args, kwargs))[0] if isinstance(leaf, torch.Tensor)
        }
        result = func(*args, **(kwargs or {}))
        for leaf in tree_flatten(result)[0]:
            if isinstance(leaf, torch.Tensor):
                self._count(leaf, before)
        return result

    def _count(self, tensor: torch.Tensor, known: set[int]) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in known or key in self._seen:
            return
        self._seen.add(key)
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._free, key, storage.nbytes())

    def _free(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self.live -= size
