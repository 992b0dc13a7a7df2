"""mmengine's runner with a console that one can read, and with checkpoints that are read safely."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from mmengine.logging import MMLogger
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmengine.runner.checkpoint import _load_checkpoint_to_model
from mmengine.visualization import Visualizer

from densehead.engine.checkpoints import load_for
from densehead.registry import RUNNERS

# First and last words of what goes to the log file only: hundreds of lines about machine, config, hooks and each single
# parameter, and what mmengine says about its own inside
LENGTHY = (
    "\n------------------------------------------------------------\nSystem environment",
    "Config:\n",
    "Hooks will be executed",
    "Exp name:",
    "Distributed training",
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    "paramwise_options -- ",
)
LENGTHY_ENDS = (" is skipped since its requires_grad=False",)


@RUNNERS.register_module()
class QuietRunner(Runner):
    """mmengine's runner; environment, config and list of hooks go to the log file only.

    Checkpoints are read without running code of theirs, and those of mmdetection 2.x under today's names.
    """

    def build_logger(self, *args, **kwargs) -> MMLogger:
        """Build the logger and shorten what it prints."""
        logger = super().build_logger(*args, **kwargs)
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler:
                handler.addFilter(is_brief)
        return logger

    def build_visualizer(self, visualizer: Visualizer | dict | None = None) -> Visualizer:
        """Build the visualizer; a second run in a program does not get that of the first, with its folder."""
        if isinstance(visualizer, dict) and Visualizer.check_instance_created(visualizer.get("name", "")):
            visualizer = {**visualizer, "name": f"{visualizer['name']}_{self.experiment_name}"}
        return super().build_visualizer(visualizer)

    def load_checkpoint(
        self,
        filename: str,
        map_location: str | Callable = "cpu",
        strict: bool = False,
        revise_keys: Sequence[tuple[str, str]] = ((r"^module.", ""),),
    ) -> dict:
        """Load a checkpoint into the model, after the hooks have seen it; return it.

        Raises:
            ValueError: the file is no checkpoint, holds objects that are not read, or is one to resume from and has
                nothing but weights.
        """
        checkpoint = load_for(self.model, filename, map_location=map_location)
        if self._resume and "message_hub" not in checkpoint:
            origin = "of mmdetection 2.x" if "mmdet_version" in (checkpoint.get("meta") or {}) else "of weights alone"
            raise ValueError(
                f"{filename} is a checkpoint {origin}: a training cannot be resumed from it. To start one from its "
                "weights, set load_from and leave --resume (resume=True) out"
            )
        self.call_hook("after_load_checkpoint", checkpoint=checkpoint)
        model = self.model.module if is_model_wrapper(self.model) else self.model
        checkpoint = _load_checkpoint_to_model(model, checkpoint, strict, revise_keys=list(revise_keys))
        self._has_loaded = True
        self.logger.info(f"Load checkpoint from {filename}")
        return checkpoint


def is_brief(record: logging.LogRecord) -> bool:
    """Tell whether a record is for the console too."""
    message = record.getMessage()
    return not (message.startswith(LENGTHY) or message.endswith(LENGTHY_ENDS))
