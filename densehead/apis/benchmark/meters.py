"""Time and peak memory of a call."""

from __future__ import annotations

import ctypes
import gc
import statistics
import time
from collections.abc import Callable, Mapping

import torch
from torch.profiler import ProfilerActivity, profile

Call = Callable[[], object]
MEGABYTE = 1e6
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of mallopt


def measure_time(call: Call, device: str = "cpu") -> float:
    """Return the milliseconds that a call takes; on a GPU by its events, from an idle device to an idle device.

    What the call returns is freed after the clock has stopped.
    """
    if device == "cpu":
        start = time.perf_counter()
        result = call()
        elapsed = (time.perf_counter() - start) * 1e3
        del result
        return elapsed
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    result = call()
    end.record()
    torch.cuda.synchronize()
    del result
    return start.elapsed_time(end)


def alternate(
    calls: Mapping[str, Call],
    *,
    rounds: int,
    device: str = "cpu",
    warmups: int = 2,
    prepare: Call = lambda: None,
    limit: float = float("inf"),
) -> dict[str, list[float]]:
    """Time calls in turn, one round of each after the other, so that what else the machine does meets all alike.

    Args:
        calls: what is timed, by name.
        rounds: of each.
        device: ``'cpu'`` or ``'cuda'``.
        warmups: rounds before, which do not count.
        prepare: called before every round of each, off the clock.
        limit: seconds after which no further round begins; there is always one.

    Returns:
        Milliseconds of each round, by name.
    """
    times: dict[str, list[float]] = {name: [] for name in calls}
    begin = time.perf_counter()
    gc.collect()
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        for index in range(-warmups, rounds):
            if time.perf_counter() - begin > limit and min(map(len, times.values())):
                break
            for name, call in calls.items():
                prepare()
                elapsed = measure_time(call, device)
                if index >= 0 or time.perf_counter() - begin > limit:
                    times[name].append(elapsed)
    finally:
        if was_enabled:
            gc.enable()
    prepare()
    return times


def measure_memory(call: Call, device: str = "cpu", *, prepare: Call = lambda: None) -> float:
    """Return the most megabytes (10^6 bytes) that a call had allocated at a time, beyond those before it.

    Counted where PyTorch allocates them, so also inside operators, inside mmcv's, and for the backward pass. What NumPy
    or a library of mathematics takes for itself is not seen.

    Args:
        call: measured once; what it returns is kept to the end.
        device: ``'cpu'`` or ``'cuda'``.
        prepare: called before.
    """
    prepare()
    gc.collect()
    if device != "cpu":
        torch.cuda.synchronize()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        result = call()
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_allocated() - before
        del result
        prepare()
        return peak / MEGABYTE
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        result = call()
    del result
    prepare()
    return _peak(record) / MEGABYTE


def summary(times: list[float], megabytes: float | None) -> dict:
    """Return what is kept of a measurement."""
    return {
        "median_ms": round(statistics.median(times), 4),
        "min_ms": round(min(times), 4),
        "times_ms": [round(one, 4) for one in times],
        "peak_mb": None if megabytes is None else round(megabytes, 4),
    }


def _peak(record: profile) -> int:
    """The highest sum of the allocations less the releases that a profile saw, in their order; bytes."""
    events = [one for one in record.profiler.kineto_results.events() if one.name() == "[memory]"]
    clock = "start_ns" if events and hasattr(events[0], "start_ns") else "start_us"
    live = peak = 0
    for event in sorted(events, key=lambda one: getattr(one, clock)()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def keep_freed_memory() -> bool:
    """Have the C library keep what is freed for what is allocated next, and return whether it does.

    Otherwise it returns large pieces to the system at moments that depend on all that was freed before, the other
    side's memory among it; to get them back then takes longer than to compute the losses.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt  # of glibc
    except (OSError, AttributeError, TypeError):
        return False
    return all([mallopt(_MMAP_THRESHOLD, 32 << 20), mallopt(_TRIM_THRESHOLD, (1 << 31) - 1)])
