"""Means over the processes of a distributed run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch.distributed as dist
from torch import Tensor

from densehead.ops.boxes import full_precision

_is_alone = False


@contextmanager
def on_this_rank() -> Iterator[None]:
    """Take :func:`reduce_mean` over this process alone inside the ``with``; the others need not take part."""
    global _is_alone
    before, _is_alone = _is_alone, True
    try:
        yield
    finally:
        _is_alone = before


def reduce_mean(tensor: Tensor) -> Tensor:
    """Return the mean of ``tensor`` over all ranks, without gradient; ``tensor`` itself without a process group.

    Counts (integers) and half-precision values are summed, and returned, as float32.
    """
    if _is_alone or not (dist.is_available() and dist.is_initialized()):
        return tensor
    total = full_precision(tensor.detach()).clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()
