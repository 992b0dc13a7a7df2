"""What the assigner does while training, in the log: positives of an object by its size, objects without any."""

from __future__ import annotations

import math

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from densehead.analysis.statistics import GROUPS
from densehead.engine.checks import unwrapped
from densehead.models.heads import DenseHead
from densehead.registry import HOOKS
from densehead.structures import Assignment, Targets


@HOOKS.register_module()
class AssignmentHook(Hook):
    """Logs what heads assign and how large gradients are.

    Every ``interval`` iterations, over the objects of all of them and of all processes:

    - ``pos_per_object``, and of small, medium and large objects ``pos_small``, ``pos_medium`` and ``pos_large``:
      positives of an object on average. Sizes are COCO's (areas below 32 x 32, below 96 x 96, and above), in pixels of
      the input.
    - ``missed``: the share of objects that no prior answers for.
    - ``grad_norm``, the norm of the gradient in each iteration, where clipping does not log it already
      (``optim_wrapper.clip_grad``) and there is one optimizer.

    Counts stay on the device in between, so a GPU is waited for once an interval.

    Args:
        interval: iterations between two entries.

    Raises:
        ValueError: ``interval`` is not positive.
    """

    def __init__(self, interval: int = 50) -> None:
        if interval < 1:
            raise ValueError(f"default_hooks.assignment.interval must be at least 1, but got {interval}")
        self.interval = interval
        self._counts: Tensor | None = None
        self._norms: list[Tensor] = []
        self._handle = None

    def before_train(self, runner) -> None:
        """Begin to count."""
        self.after_train(runner)
        self._heads = [one for one in unwrapped(runner.model).modules() if isinstance(one, DenseHead)]
        self._counts, self._norms = None, []
        if isinstance(runner.optim_wrapper, OptimWrapper) and not _logs_norm(runner.optim_wrapper):
            self._handle = runner.optim_wrapper.optimizer.register_step_pre_hook(self._note_norm)

    def after_train_iter(self, runner, batch_idx: int, data_batch=None, outputs=None) -> None:
        """Count an iteration; log where it is time."""
        for head in self._heads:
            if head.last_assignment is not None:
                counts = count_positives(head.last_assignment, head.last_targets)
                self._counts = counts if self._counts is None else self._counts + counts
        if self.every_n_train_iters(runner, self.interval):
            self._log(runner)

    def after_train(self, runner) -> None:
        """Leave the optimizer as it was."""
        if self._handle is not None:
            self._handle.remove()
        self._handle = None

    def _log(self, runner) -> None:
        hub = runner.message_hub
        if self._heads:
            device = next(self._heads[0].parameters()).device
            counts = torch.zeros(3, len(GROUPS), device=device) if self._counts is None else self._counts
            all_reduce(counts)
            for name, value in averages(*counts.tolist()).items():
                hub.update_scalar(f"train/{name}", value)
        for norm in torch.stack(self._norms).tolist() if self._norms else ():
            hub.update_scalar("train/grad_norm", norm)
        self._counts, self._norms = None, []

    def _note_norm(self, optimizer: torch.optim.Optimizer, *args) -> None:
        """Keep the norm of the gradient that an optimizer is about to use."""
        grads = [one.grad for group in optimizer.param_groups for one in group["params"] if one.grad is not None]
        if grads:
            norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(grads)))
            scale = getattr(optimizer, "grad_scale", None)  # of mixed precision, where the optimizer divides by it
            self._norms.append(norm if scale is None else norm / scale)


@torch.no_grad()
def count_positives(assignment: Assignment, targets: Targets) -> Tensor:
    """Return (3, 3) counts, one row each of objects, of objects without a positive and of positives; a column for each
    of COCO's groups of sizes. A GPU is not waited for.
    """
    if not targets.max_count:
        return torch.zeros(3, len(GROUPS), device=targets.boxes.device)
    is_positive = assignment.is_positive
    counts = targets.boxes.new_zeros(targets.num_images, targets.max_count)
    counts.scatter_add_(1, assignment.gt_index.clamp(min=0), is_positive.to(counts.dtype))
    sides = (targets.boxes[..., 2:] - targets.boxes[..., :2]).clamp(min=0)
    size = sides.prod(-1).sqrt()
    rows = []
    for low, high in GROUPS.values():
        is_here = targets.is_valid & (size >= low) & (size < high)
        rows.append(torch.stack([is_here.sum(), (is_here & (counts == 0)).sum(), (counts * is_here).sum()]))
    return torch.stack(rows, 1)


def averages(objects: list[float], missed: list[float], positives: list[float]) -> dict[str, float]:
    """Return what is logged of counts by group of sizes; nothing of groups without an object."""
    found = {f"pos_{name}": pos / count for name, pos, count in zip(GROUPS, positives, objects, strict=True) if count}
    total = math.fsum(objects)
    return {"pos_per_object": sum(positives) / total, **found, "missed": sum(missed) / total} if total else {}


def _logs_norm(wrapper: OptimWrapper) -> bool:
    """Whether a wrapper of mmengine logs the norm of the gradient itself."""
    return bool(wrapper.clip_grad_kwargs) and wrapper.clip_func is nn.utils.clip_grad_norm_
