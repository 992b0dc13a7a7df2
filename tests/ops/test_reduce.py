from __future__ import annotations

import importlib
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

from densehead.ops import reduce_mean

PROGRAM = """
import sys, torch, torch.distributed as dist
from densehead.ops import reduce_mean
rank = int(sys.argv[1])
dist.init_process_group("gloo", init_method=f"file://{sys.argv[2]}", rank=rank, world_size=2)
assert reduce_mean(torch.tensor([3.0, 1.0]) * (rank + 1)).tolist() == [4.5, 1.5]
assert reduce_mean(torch.tensor(7 + rank)).item() == 7.5
dist.destroy_process_group()
"""


@pytest.fixture
def two_ranks(monkeypatch):
    """Pretend a second rank, which has three times of everything."""
    fake = SimpleNamespace(
        is_available=lambda: True,
        is_initialized=lambda: True,
        get_world_size=lambda: 2,
        all_reduce=lambda tensor: tensor.mul_(4),
    )
    monkeypatch.setattr(importlib.import_module("densehead.ops.reduce"), "dist", fake)


def test_identity_without_process_group():
    tensor = torch.tensor(3)
    assert reduce_mean(tensor) is tensor


def test_mean_leaves_the_argument_and_the_graph_alone(two_ranks):
    own = torch.tensor([3.0, 1.0], requires_grad=True)
    mean = reduce_mean(own)
    assert mean.tolist() == [6, 2]
    assert not mean.requires_grad
    assert own.tolist() == [3, 1]


@pytest.mark.parametrize(
    ("value", "dtype", "result"),
    [(7, torch.int64, torch.float32), (30000, torch.float16, torch.float32), (0.1, torch.float64, torch.float64)],
)
def test_counts_and_half_precision_are_summed_in_float32(two_ranks, value, dtype, result):
    mean = reduce_mean(torch.tensor(value, dtype=dtype))  # the sum of 120000 is no float16
    assert mean.dtype == result
    assert mean.item() == pytest.approx(2 * value)


@pytest.mark.slow
def test_mean_over_two_processes(tmp_path):
    command = [sys.executable, "-c", PROGRAM]
    both = [
        subprocess.Popen([*command, str(rank), str(tmp_path / "store")], stderr=subprocess.PIPE, text=True)
        for rank in range(2)
    ]
    errors = [process.communicate(timeout=120)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], errors
