"""Losses that are no longer finite end a training, with a report."""

from __future__ import annotations

import logging
import traceback

from mmengine.hooks import Hook
from mmengine.logging import print_log

from densehead.analysis.faults import Circumstances, diagnose, write_report
from densehead.analysis.faults.report import MOST_MEGABYTES, command
from densehead.engine.checks import unwrapped
from densehead.engine.step_watch import StepWatch
from densehead.files import as_typed
from densehead.models.heads.finite import LossNotFinite
from densehead.registry import HOOKS


@HOOKS.register_module()
class CheckInvalidLossHook(Hook):
    """Ends a training whose losses are no longer finite, says what they come from, and writes a report.

    On a CPU the heads look at the losses of every step themselves. On a GPU they are looked at when the backward pass
    has been sent to it and the weights have not been changed yet; it has long computed them then and goes on meanwhile.

    The report is a folder in the work dir, see :func:`densehead.analysis.faults.write_report`; until something is
    wrong, all that is kept for it are references to the batch of the step under way. Of several processes each that has
    such a loss writes its own, without the others. With mmengine's ``compile`` there is none.

    Args:
        interval: on a GPU, iterations between two looks; with more than 1 the weights may be NaN already when a loss is
            looked at.
        report: whether a report is written.
        max_size: megabytes of weights and images, above which they are not written; see ``write_report``.

    Raises:
        ValueError: ``interval`` or ``max_size`` is not positive.
        FloatingPointError: a loss is not finite.
    """

    priority = "VERY_HIGH"  # before a checkpoint is written

    def __init__(self, interval: int = 1, report: bool = True, max_size: float = MOST_MEGABYTES) -> None:
        for name, value in (("interval", interval), ("max_size", max_size)):
            if value <= 0:
                raise ValueError(f"default_hooks.check_losses.{name} must be positive, but got {value}")
        self.interval = interval
        self.report = report
        self.max_size = max_size
        self._watch: StepWatch | None = None

    def before_train(self, runner) -> None:
        """Begin to watch the steps."""
        self.after_train(runner)
        self._watch = StepWatch(
            runner.model,
            runner.optim_wrapper,
            is_due=lambda: self.every_n_train_iters(runner, self.interval),
            explain=lambda error: self._explain(runner, error),
            keeps_batch=self.report and not runner.cfg.get("compile"),
        )

    def after_train(self, runner) -> None:
        """Leave the model as it was."""
        if self._watch is not None:
            self._watch.remove()
        self._watch = None

    def _explain(self, runner, error: LossNotFinite) -> str:
        """Return the message that ends the training, after the report is written."""
        where = f"iteration {runner.iter + 1}"
        step = self._watch.step
        if step is None:
            return f"{where}: {error}"
        detector = unwrapped(runner.model)
        classes = (getattr(runner.train_dataloader.dataset, "metainfo", None) or {}).get("classes") or ()
        circumstances = Circumstances(
            iteration=runner.iter + 1,
            epoch=runner.epoch + 1,
            rank=runner.rank,
            world_size=runner.world_size,
            classes=classes,
            config=runner.cfg,
        )
        try:
            fault = diagnose(detector, step.inputs, step.samples, error.report, classes)
            folder = write_report(runner.work_dir, circumstances, fault, step, detector, max_size=self.max_size)
        except Exception:  # the loss is what the training ends for, whatever is wrong with the report
            print_log(f"no report could be written:\n{traceback.format_exc()}", logger="current", level=logging.WARNING)
            return f"{where}: {error}"
        return f"{where}: {fault.headline()}. Report: {as_typed(folder)}; to repeat the step: {command(folder)}"
