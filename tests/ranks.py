"""Run a function in several processes at once, and fetch what each returns."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def run_ranks(function: Callable, *args, world_size: int = 2, timeout: float = 150) -> list:
    """Return what ``function(rank, *args)`` returns in each process of a gloo group.

    ``function`` must be one of a module. A rank that raises ends the others and its traceback is raised here; ranks
    that wait for each other raise after half of ``timeout`` (seconds), and are ended after all of it.
    """
    with tempfile.TemporaryDirectory() as folder:
        group = (f"file://{folder}/store", world_size, timedelta(seconds=timeout / 2))
        return run_processes(_in_group, group, function, args, count=world_size, timeout=timeout)


def run_processes(function: Callable, *args, count: int = 2, timeout: float = 150) -> list:
    """Return what ``function(number, *args)`` returns in each of ``count`` processes, which know nothing of each
    other.
    """
    with tempfile.TemporaryDirectory() as folder:
        processes = mp.spawn(_save, (function, args, folder), nprocs=count, join=False)
        deadline = time.monotonic() + timeout
        while not processes.join(timeout=max(deadline - time.monotonic(), 0)):
            if time.monotonic() >= deadline:
                for process in processes.processes:
                    process.kill()
                raise TimeoutError(f"{function.__name__} had not ended in all processes after {timeout} s")
        return [torch.load(Path(folder, f"{number}.pt"), weights_only=False) for number in range(count)]


def _save(number: int, function: Callable, args: tuple, folder: str) -> None:
    torch.set_num_threads(1)
    torch.save(function(number, *args), Path(folder, f"{number}.pt"))


def _in_group(rank: int, group: tuple, function: Callable, args: tuple) -> object:
    store, world_size, patience = group
    dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world_size, timeout=patience)
    try:
        return function(rank, *args)
    finally:
        dist.destroy_process_group()
