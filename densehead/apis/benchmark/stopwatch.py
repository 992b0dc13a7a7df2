"""Where the time of a training step goes: stages by the clock, and convolutions by PyTorch's profiler."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from functools import wraps

import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile


def clock(device: str) -> float:
    """Return the seconds of a clock, after what a GPU has been given is done."""
    if device != "cpu":
        torch.cuda.synchronize()
    return time.perf_counter()


class Stopwatch:
    """Sums the time of calls that it wraps, while it runs.

    On a GPU every reading waits for what it has been given: the parts are right, their sum is longer than a step that
    nobody looks at.

    Args:
        device: ``'cpu'`` or ``'cuda'``.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        self.is_running = False
        self.seconds: dict[str, float] = defaultdict(float)
        self._gradients_begin: float | None = None

    def wrap(self, owner: object, name: str, stage: str) -> None:
        """Replace a method of an object by one whose time counts for a stage; calls inside others of it do too."""
        call = getattr(owner, name)

        @wraps(call)  # schedulers look for what they noted at the optimizer's step
        def timed(*args, **kwargs):
            if not self.is_running:
                return call(*args, **kwargs)
            start = clock(self.device)
            if stage == "backward":
                self._gradients_begin = start
            try:
                return call(*args, **kwargs)
            finally:
                self.seconds[stage] += clock(self.device) - start

        setattr(owner, name, timed)

    def wrap_head(self, head: nn.Module) -> None:
        """Let ``loss_by_feat`` of a head count, and the part of the backward pass before its branches."""
        call = head.loss_by_feat
        names = getattr(head, "map_names", ())

        def timed(*args, **kwargs):
            if not self.is_running:
                return call(*args, **kwargs)
            maps = [arg for arg in args if _is_maps(arg)]
            # VFNet's first boxes lead to the second, by convolutions
            maps = [levels for index, levels in enumerate(maps) if names[index : index + 1] != ("initial_deltas",)]
            self._watch([level for levels in maps for level in levels])
            start = clock(self.device)
            try:
                return call(*args, **kwargs)
            finally:
                self.seconds["head loss"] += clock(self.device) - start

        head.loss_by_feat = timed

    def _watch(self, maps: Sequence[Tensor]) -> None:
        """Note when the backward pass comes to the first of the maps: what was computed last, the losses, is done."""
        handles = []

        def hook(_: Tensor) -> None:
            for handle in handles:
                handle.remove()
            if self._gradients_begin is not None:
                self.seconds["head loss, backward"] += clock(self.device) - self._gradients_begin
                self._gradients_begin = None

        handles += [level.register_hook(hook) for level in maps if level.requires_grad]


class ConvolutionShare:
    """Profiles what happens between ``start`` and ``stop``, and says how much of it convolutions are.

    Args:
        device: ``'cpu'`` or ``'cuda'``; the time of its operators or kernels counts.
    """

    def __init__(self, device: str) -> None:
        self.device = device
        activities = [ProfilerActivity.CPU] + ([ProfilerActivity.CUDA] if device != "cpu" else [])
        self.profile = profile(activities=activities)

    def start(self) -> None:
        """Begin."""
        self.profile.start()

    def stop(self) -> dict[str, float]:
        """End; return ``total_ms`` and ``convolutions_ms``."""
        clock(self.device)
        self.profile.stop()
        rows = self.profile.key_averages()
        operators = [row for row in rows if row.device_type == torch.autograd.DeviceType.CPU]
        if self.device == "cpu":
            total = sum(row.self_cpu_time_total for row in operators)
            mine = sum(row.self_cpu_time_total for row in operators if is_convolution(row.key))
        else:
            kernels = [row for row in rows if row.device_type == torch.autograd.DeviceType.CUDA]
            total = sum(_device_time(row) for row in kernels if not getattr(row, "is_user_annotation", False))
            mine = sum(_device_time(row) for row in operators if is_convolution(row.key))
        return {"total_ms": total / 1e3, "convolutions_ms": mine / 1e3}


def is_convolution(name: str) -> bool:
    """Tell whether an operator is a convolution or the gradient of one; deformable ones count."""
    return "conv" in name.rpartition("::")[2].lower()


def _device_time(row: object) -> float:
    """The microseconds on the GPU of a row's own kernels; older PyTorch names them otherwise."""
    return row.self_device_time_total if hasattr(row, "self_device_time_total") else row.self_cuda_time_total


def _is_maps(value: object) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and all(isinstance(one, Tensor) for one in value)
