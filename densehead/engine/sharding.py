"""Training with parameters shared out among processes (FSDP), by config."""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from mmengine.model import MMFullyShardedDataParallel
from torch import nn
from torch.autograd import Variable

from densehead.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class FullyShardedDetector(MMFullyShardedDataParallel):
    """mmengine's wrapper for FSDP, for detectors whose heads have parameters of one number (``Scale``).

    PyTorch shards no parameter without dimensions. Such ones stay whole on every process; after each backward pass
    their gradients are averaged over the processes, in one call. Without a GPU the model stays on the CPU.

    Args:
        module: the detector.
        device_id: of the GPU; mmengine's strategy gives the process's own.
        kwargs: see mmengine's ``MMFullyShardedDataParallel``.
    """

    def __init__(self, module: nn.Module, device_id: int | torch.device | None = None, **kwargs) -> None:
        if not torch.cuda.is_available():
            device_id = torch.device("cpu")
        scalars = [parameter for parameter in module.parameters() if parameter.ndim == 0]
        super().__init__(module, device_id=device_id, ignored_states=scalars, **kwargs)
        self._scalars = [parameter for parameter in scalars if parameter.requires_grad]
        self._is_due = False  # a mean at the end of the backward pass under way
        for parameter in self._scalars:
            parameter.data = parameter.data.to(self.compute_device)
            parameter.register_post_accumulate_grad_hook(self._ask_for_mean)

    def _ask_for_mean(self, parameter: nn.Parameter) -> None:
        """Average when the pass is over: its order need not be the same on all processes, that of calls must be."""
        if not self._is_due:
            self._is_due = True
            Variable._execution_engine.queue_callback(self._average_scalars)

    @torch.no_grad()
    def _average_scalars(self) -> None:
        self._is_due = False
        grads = [torch.zeros_like(one) if one.grad is None else one.grad for one in self._scalars]
        mean = torch.stack(grads)
        dist.all_reduce(mean, group=self.process_group)
        mean /= dist.get_world_size(self.process_group)
        for parameter, grad in zip(self._scalars, mean, strict=True):
            parameter.grad = grad.clone()


def check_sharding(cfg: Mapping) -> None:
    """Raise a ValueError where a config that shards asks for what would go wrong without a word.

    Args:
        cfg: of a training.
    """
    strategy = cfg.get("strategy") or {}
    if "FSDP" in str(strategy.get("type", "")) and (cfg.get("optim_wrapper") or {}).get("clip_grad"):
        raise ValueError(
            "optim_wrapper.clip_grad must be None with FSDPStrategy: each process would clip by the norm of its own "
            "share of the gradient. Set optim_wrapper.clip_grad=None"
        )
