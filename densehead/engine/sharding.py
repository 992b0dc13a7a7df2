"""Training with parameters shared out among processes (FSDP), by config."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import torch
import torch.distributed as dist
from mmengine._strategy import FSDPStrategy
from mmengine.dist import is_main_process
from mmengine.model import MMFullyShardedDataParallel
from mmengine.runner._flexible_runner import FlexibleRunner
from torch import nn
from torch.autograd import Variable
from torch.distributed.fsdp import FullOptimStateDictConfig, FullyShardedDataParallel

from densehead.engine.checkpoints import load_for
from densehead.files import whole_file
from densehead.registry import MODEL_WRAPPERS, RUNNERS, STRATEGIES


@MODEL_WRAPPERS.register_module()
class FullyShardedDetector(MMFullyShardedDataParallel):
    """mmengine's wrapper for FSDP, for detectors whose heads have parameters of one number (``Scale``).

    PyTorch shards no parameter without dimensions. Such ones stay whole on every process; after each backward pass
    their gradients are averaged over the processes, in one call. Without a GPU the model stays on the CPU.

    Args:
        module: the detector.
        device_id: of the GPU; mmengine's strategy gives the process's own.
        kwargs: see mmengine's ``MMFullyShardedDataParallel``.

    Attributes:
        whole_state: names and shapes of the detector's parameters and buffers before they are shared out.
    """

    def __init__(self, module: nn.Module, device_id: int | torch.device | None = None, **kwargs) -> None:
        if not torch.cuda.is_available():
            device_id = torch.device("cpu")
        whole_state = {name: value.to("meta") for name, value in module.state_dict().items()}
        scalars = [parameter for parameter in module.parameters() if parameter.ndim == 0]
        super().__init__(module, device_id=device_id, ignored_states=scalars, **kwargs)
        self.whole_state = whole_state
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


@STRATEGIES.register_module()
class FullyShardedStrategy(FSDPStrategy):
    """mmengine's strategy for FSDP with checkpoints of the whole detector, that a training can be resumed from.

    They are those of a training without FSDP: one file, written beside and renamed, and read without running code of
    it. (mmengine's own strategy writes in place, reads by PyTorch's rules and cannot resume with PyTorch 2.1 or newer.)

    Args:
        model_wrapper: config of the wrapper; :class:`FullyShardedDetector` if None.
        kwargs: see mmengine's ``FSDPStrategy``, but for ``state_dict_cfg``.

    Attributes:
        place: ``epoch`` and ``iter`` that the next checkpoint says, where it is not the runner that knows best.
    """

    def __init__(self, *, model_wrapper: dict | None = None, **kwargs) -> None:
        wrapper = {"type": "densehead.FullyShardedDetector"} if model_wrapper is None else model_wrapper
        if kwargs.pop("state_dict_cfg", "full") != "full":
            raise ValueError("strategy.state_dict_cfg must be 'full': checkpoints hold the whole detector")
        super().__init__(model_wrapper=wrapper, state_dict_cfg="full", **kwargs)
        # on a CPU PyTorch gathers all states of a parameter in one place, and bringing them "to the CPU" copies none
        is_copied = torch.cuda.is_available()
        self.optim_state_dict_config = FullOptimStateDictConfig(offload_to_cpu=is_copied, rank0_only=True)
        self.place: dict[str, int] = {}

    def save_checkpoint(self, filename: str, *, extra_ckpt: dict | None = None, **kwargs) -> None:
        """Write a checkpoint, on the first process; see mmengine's strategy."""
        extra = {**(extra_ckpt or {})}
        extra["meta"] = {**extra.get("meta", {}), **self.place}
        with whole_file(filename) if is_main_process() else nullcontext() as file:
            super().save_checkpoint(filename if file is None else str(file.name), extra_ckpt=extra, **kwargs)

    def load_checkpoint(
        self, filename: str, *, strict: bool = False, callback: Callable | None = None, **kwargs: Any
    ) -> dict:
        """Load a checkpoint into the model, after ``callback`` has seen it; return what else it holds."""
        checkpoint = load_for(self.model, filename)
        if callback is not None:
            callback(checkpoint)
        state = checkpoint.pop("state_dict", checkpoint)
        self.load_model_state_dict({name.removeprefix("module."): one for name, one in state.items()}, strict=strict)
        return checkpoint

    def load_optim_state_dict(self, state_dict: dict) -> None:
        """Load the state of the optimizer, of which each process takes its share."""
        found = FullyShardedDataParallel.optim_state_dict_to_load(
            model=self.model, optim=self.optim_wrapper.optimizer, optim_state_dict=state_dict
        )
        self.optim_wrapper.load_state_dict(found)


@RUNNERS.register_module()
class FullyShardedRunner(FlexibleRunner):
    """mmengine's runner for FSDP, whose checkpoints say where in the training they were written.

    mmengine's own counts an epoch too many in those that its hook writes again after a validation.
    """

    def save_checkpoint(self, out_dir: str, filename: str, *args, meta: dict | None = None, **kwargs) -> None:
        """Save a checkpoint; what ``meta`` says of ``epoch`` and ``iter`` stays."""
        meta = {**(meta or {})}  # which mmengine's changes, and its hook uses again
        self.strategy.place = {key: meta[key] for key in ("epoch", "iter") if key in meta}
        super().save_checkpoint(out_dir, filename, *args, meta=meta, **kwargs)


def check_sharding(cfg: Mapping) -> None:
    """Raise a ValueError where a config that shards asks for what would go wrong without a word.

    Args:
        cfg: of a training.
    """
    strategy = cfg.get("strategy") or {}
    shares = any(name in str(strategy.get("type", "")) for name in ("FSDP", "FullySharded"))
    if shares and (cfg.get("optim_wrapper") or {}).get("clip_grad"):
        raise ValueError(
            f"optim_wrapper.clip_grad must be None with {strategy['type']}: each process would clip by the norm of its "
            "own share of the gradient. Set optim_wrapper.clip_grad=None"
        )
