"""Batches on their way from the processes that load them."""

from __future__ import annotations

import io
import math
import pickle
from collections.abc import Sequence

import torch
from mmengine.dataset import pseudo_collate
from torch import Tensor
from torch.utils.data import get_worker_info

from densehead.registry import FUNCTIONS

_SMALL = 4096  # bytes; tensors below are sent among the rest of the batch
_ALIGNMENT = 64  # bytes; that of the tensors in the one buffer


@FUNCTIONS.register_module()
def packed_collate(data_batch: Sequence[dict]) -> dict:
    """Collate as mmengine's ``pseudo_collate``: a dict of lists; a process that loads sends it in one piece.

    PyTorch sends every single tensor in a shared file of its own, boxes and labels too: five an image, of which the
    receiving process opens one after the other. Here all images of a batch share one.

    Args:
        data_batch: what the data set gave, a dict an image.
    """
    batch = pseudo_collate(data_batch)
    return batch if get_worker_info() is None else _Parcel(batch)


class _Parcel(dict):
    """A batch that becomes a plain dict on its way."""

    def __reduce__(self) -> tuple:
        file = io.BytesIO()
        packer = _Packer(file)
        packer.dump(dict(self))
        return _unpack, (file.getvalue(), packer.buffer())


class _Packer(pickle.Pickler):
    """Pickles all but the tensors, which are described by where they lie in :meth:`buffer`, or held if small."""

    def __init__(self, file: io.BytesIO) -> None:
        super().__init__(file, protocol=pickle.HIGHEST_PROTOCOL)
        self._parts: list[Tensor] = []
        self._size = 0

    def buffer(self) -> Tensor:
        """Return the large tensors' bytes, one after the other."""
        return torch.cat(self._parts) if self._parts else torch.empty(0, dtype=torch.uint8)

    def persistent_id(self, value) -> tuple | None:
        if type(value) is not Tensor or not _is_plain(value):
            return None
        # with one element or none any stride counts as contiguous, but not for a change of type
        flat = value.contiguous().as_strided((value.numel(),), (1,)).view(torch.uint8)
        if len(flat) < _SMALL:
            return value.dtype, value.shape, flat.numpy().tobytes()
        start = self._size
        padding = -len(flat) % _ALIGNMENT
        self._parts += [flat, flat.new_empty(padding)]
        self._size += len(flat) + padding
        return value.dtype, value.shape, start


class _Unpacker(pickle.Unpickler):
    def __init__(self, data: bytes, buffer: Tensor) -> None:
        super().__init__(io.BytesIO(data))
        self._buffer = buffer

    def persistent_load(self, pid: tuple) -> Tensor:
        dtype, shape, place = pid
        if isinstance(place, int):
            count = math.prod(shape) * dtype.itemsize
            return self._buffer[place : place + count].view(dtype).view(shape)
        if not place:
            return torch.empty(shape, dtype=dtype)
        # memory of its own: what keeps boxes must not keep the images of the batch
        return torch.frombuffer(bytearray(place), dtype=dtype).view(shape)


def _unpack(data: bytes, buffer: Tensor) -> dict:
    return _Unpacker(data, buffer).load()


def _is_plain(value: Tensor) -> bool:
    is_dense = value.layout is torch.strided and value.device.type == "cpu" and not value.is_quantized
    return is_dense and not value.requires_grad
