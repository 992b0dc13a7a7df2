from __future__ import annotations

import pytest
import torch

from densehead.ops import use_backend
from densehead.ops.backend import mmcv_ops

needs_mmcv = pytest.mark.skipif(mmcv_ops() is None, reason="mmcv has no compiled operators here")


@pytest.fixture(params=["torchvision", pytest.param("mmcv", marks=needs_mmcv)])
def any_backend(request):
    """Run the test once with each library that is there."""
    with use_backend(request.param):
        yield request.param


@pytest.fixture
def random_boxes():
    """Boxes of 4 to 40 pixels around 4 places, so that many overlap."""

    def make(count: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        centre = torch.randint(1, 5, (count, 1), generator=generator) * 30
        centre = centre + torch.rand(count, 2, generator=generator) * 20
        half = torch.rand(count, 2, generator=generator) * 18 + 2
        return torch.cat((centre - half, centre + half), 1).to(dtype)

    return make
