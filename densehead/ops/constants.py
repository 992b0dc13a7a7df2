"""Numbers known to the host as tensors: a copy to a GPU makes the host wait, so each is made once."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor


@lru_cache(maxsize=1024)
def constant(values: tuple, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return numbers as a tensor that callers must not write to; the same one each time.

    Args:
        values: numbers, in tuples of tuples where it has several axes.
        dtype: of the tensor.
        device: where it lies.
    """
    with torch.inference_mode(False):  # a training may follow, which saves it for its backward pass
        return torch.tensor(values, dtype=dtype, device=device)
