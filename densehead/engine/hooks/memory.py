"""Memory in the log where there is no GPU."""

from __future__ import annotations

import sys
from typing import Any

import torch
from mmengine.hooks import Hook

from densehead.registry import HOOKS


@HOOKS.register_module()
class HostMemoryHook(Hook):
    """Logs ``memory``, the peak resident memory of the process in MB, on machines without a GPU.

    With a GPU mmengine itself logs ``memory``, that of the device.
    """

    def after_train_iter(self, runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None) -> None:
        """Note the peak so far."""
        if not torch.cuda.is_available():
            runner.message_hub.update_scalar("train/memory", peak_memory())


def peak_memory() -> int:
    """Return the peak resident memory of this process in MB; 0 where the system does not tell."""
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> 20 if sys.platform == "darwin" else peak >> 10
