"""Watching the steps of a training: the batch under way is at hand when its losses turn out not to be finite."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mmengine.optim import OptimWrapper
from torch import nn

from densehead.analysis.faults import TrainingStep
from densehead.engine.checks import unwrapped
from densehead.models.heads import DenseHead
from densehead.models.heads.finite import LossNotFinite


class StepWatch:
    """Takes the place of a model's ``train_step``, keeps its batch while it runs, and looks at losses on a GPU.

    A look comes before an optimizer changes weights, or at the end of a step in which none does (gradients are
    accumulated, or the scaler of mixed precision leaves the step out).

    Args:
        model: of the runner, may be wrapped for several GPUs.
        optim_wrapper: of the runner; one or a mapping of several.
        is_due: whether losses on a GPU are to be looked at in the step under way.
        explain: makes the message of the error that ends the training of a :class:`LossNotFinite`; the weights are
            those of before the step, and :attr:`step` is the batch.
        keeps_batch: whether the batch is kept.

    Attributes:
        step: under way, None between steps.
    """

    def __init__(
        self,
        model: nn.Module,
        optim_wrapper: OptimWrapper | Mapping[str, OptimWrapper],
        *,
        is_due: Callable[[], bool],
        explain: Callable[[LossNotFinite], str],
        keeps_batch: bool = True,
    ) -> None:
        self.step: TrainingStep | None = None
        self._is_under_way = False
        self._model = model
        self._is_due = is_due
        self._explain = explain
        detector = unwrapped(model)
        self._heads = [one for one in detector.modules() if isinstance(one, DenseHead)]
        for head in self._heads:
            head.keeps_report = True
        self._own = vars(model).get("train_step")  # a compiled one
        self._train_step = model.train_step
        model.train_step = self._watched_step
        wrappers = [optim_wrapper] if hasattr(optim_wrapper, "optimizer") else list(optim_wrapper.values())
        self._handles = [one.optimizer.register_step_pre_hook(self._look) for one in wrappers]
        if keeps_batch:
            self._handles.append(detector.data_preprocessor.register_forward_hook(self._keep))

    def remove(self) -> None:
        """Leave model and optimizers as they were."""
        for handle in self._handles:
            handle.remove()
        for head in self._heads:
            head.keeps_report, head.last_report = False, None
        if vars(self._model).get("train_step") == self._watched_step:
            del self._model.train_step
            if self._own is not None:
                self._model.train_step = self._own

    def _watched_step(self, data: Any, optim_wrapper: OptimWrapper) -> dict:
        self._is_under_way = True
        try:
            outputs = self._train_step(data, optim_wrapper=optim_wrapper)
            self._look()
            return outputs
        except LossNotFinite as error:
            raise FloatingPointError(self._explain(error)) from error
        finally:
            self.step, self._is_under_way = None, False
            for head in self._heads:
                head.last_report = None

    def _keep(self, module: nn.Module, args: tuple, batch: dict) -> None:
        """Note what the data preprocessor puts out, but not while validating."""
        if self._is_under_way:
            self.step = TrainingStep.of(batch)

    def _look(self, *args: Any) -> None:
        """Look at the losses of the step, once."""
        for head in self._heads:
            report, head.last_report = head.last_report, None
            if report is not None and self._is_due() and not report.is_finite():
                raise LossNotFinite(report)
