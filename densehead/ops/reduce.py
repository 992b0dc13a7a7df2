"""Means over the processes of a distributed run."""

from __future__ import annotations

import torch.distributed as dist
from torch import Tensor

from densehead.ops.boxes import full_precision


def reduce_mean(tensor: Tensor) -> Tensor:
    """Return the mean of ``tensor`` over all ranks, without gradient; ``tensor`` itself without a process group.

    Counts (integers) and half-precision values are summed, and returned, as float32.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return tensor
    total = full_precision(tensor.detach()).clone()
    dist.all_reduce(total)
    return total / dist.get_world_size()
