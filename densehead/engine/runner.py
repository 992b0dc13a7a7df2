"""mmengine's runner with a console that one can read."""

from __future__ import annotations

import logging

from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmengine.visualization import Visualizer

from densehead.registry import RUNNERS

# First words of what goes to the log file only: hundreds of lines about machine, config and hooks, and what mmengine
# says about its own inside
LENGTHY = (
    "\n------------------------------------------------------------\nSystem environment",
    "Config:\n",
    "Hooks will be executed",
    "Exp name:",
    "Distributed training",
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
)


@RUNNERS.register_module()
class QuietRunner(Runner):
    """mmengine's runner; environment, config and list of hooks go to the log file only."""

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


def is_brief(record: logging.LogRecord) -> bool:
    """Tell whether a record is for the console too."""
    return not record.getMessage().startswith(LENGTHY)
