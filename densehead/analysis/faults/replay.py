"""Repeating the step of a report."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import Registry, init_default_scope
from mmengine.utils import import_modules_from_strings
from torch import Tensor, nn

from densehead.analysis.faults.diagnosis import diagnose
from densehead.analysis.faults.fault import Fault, differences
from densehead.analysis.faults.report import BATCH, NUMBERS
from densehead.analysis.faults.step import TrainingStep, read_step, set_progress
from densehead.arguments import walk
from densehead.models.heads.finite import LossNotFinite, looking
from densehead.registry import MODELS, TASK_UTILS, WEIGHT_INITIALIZERS

MOST_CALLS = 6  # are shown of the way to an operator


@dataclass(frozen=True)
class Replay:
    """A step that was repeated.

    Attributes:
        losses: which were finite; empty where they were not.
        fault: what was not finite, or None.
        differences: in what that is not what the report tells; empty where it is.
    """

    losses: dict[str, float]
    fault: Fault | None
    differences: tuple[str, ...]

    @property
    def is_same(self) -> bool:
        """Whether the fault was that of the report."""
        return self.fault is not None and not self.differences


class StoredStep:
    """The step of a report, with the detector as it was before it.

    The files are read without running code of theirs, and of the config only classes that are registered are built.

    Args:
        folder: of the report.
        device: where the step is repeated.

    Raises:
        FileNotFoundError: the folder is no report, or one without the batch.
        ValueError: its files cannot be read, or name what may not be built.
    """

    def __init__(self, folder: str | os.PathLike, device: str | torch.device = "cpu") -> None:
        folder = Path(folder)
        if not (folder / NUMBERS).is_file():
            raise FileNotFoundError(f"{folder} is no report of a loss that was not finite: it has no {NUMBERS}")
        try:
            self.told = json.loads((folder / NUMBERS).read_text(encoding="utf-8"))
        except ValueError as error:
            raise ValueError(f"{folder / NUMBERS} is damaged: {error}") from error
        self.content = read_step(folder / BATCH)
        self.detector = build_detector(self.content, folder / BATCH).to(device)
        self.step = TrainingStep.from_content(self.content["step"]).to(device)

    def replay(self) -> Replay:
        """Compute the losses again, look at them, and compare with the report."""
        self._prepare()
        try:
            with looking("always"):
                losses = self.step.run(self.detector)
        except LossNotFinite as error:
            batch = (self.step.inputs, self.step.samples)
            fault = diagnose(self.detector, *batch, error.report, self.content["classes"])
            return Replay({}, fault, tuple(differences(self.told["fault"], fault.as_dict())))
        values = {name: float(value.detach()) for name, value in losses.items() if isinstance(value, Tensor)}
        return Replay(values, None, ("all losses are finite",))

    def find_anomaly(self) -> str | None:
        """Return which operator's gradient is the first to be NaN, by PyTorch's anomaly detection, and which lines of
        the forward pass have called it; None if there is none.
        """
        self._prepare()
        with warnings.catch_warnings(record=True) as said, looking("never"), torch.autograd.set_detect_anomaly(True):
            warnings.simplefilter("always")
            try:
                losses = self.step.run(self.detector)
                sum(value for name, value in losses.items() if "loss" in name).backward()
            except RuntimeError as error:
                called = [str(one.message) for one in said if "forward call" in str(one.message)]
                return "\n".join([str(error), *_last_calls(called[-1] if called else "")])
        return None

    def _prepare(self) -> None:
        self.detector.load_state_dict(self.content["state_dict"])
        self.detector.zero_grad()
        self.detector.train()
        set_progress(self.content["iteration"] - 1, self.content["epoch"] - 1)


def _last_calls(text: str) -> list[str]:
    """Return the end of a traceback, two lines a call."""
    lines = [line for line in text.splitlines() if line.startswith("  ")]
    return lines[-2 * MOST_CALLS :]


def build_detector(content: Mapping[str, Any], name: str | os.PathLike) -> nn.Module:
    """Build the detector of a stored step, with random weights.

    Raises:
        ValueError: its config names what is in no registry.
        ImportError: a module of ``custom_imports`` cannot be imported here.
    """
    if content["model"] is None:
        raise ValueError(f"{name} has no config of the model: it was built by other means, and cannot be built again")
    init_default_scope(content["default_scope"] or "densehead")
    if content["custom_imports"]:
        import_modules_from_strings(**content["custom_imports"])
    known = _registered()
    for path, one in walk(content["model"], "model"):
        kind = str(one["type"])  # mmengine takes any function of any module for a type where it has a point in it
        if "." in kind and (kind.count(".") > 1 or kind.rpartition(".")[2] not in known):
            raise ValueError(
                f"{name}: {path}.type is {kind!r}, which is registered nowhere and is not built for that: name the "
                "module that registers it in custom_imports of the config"
            )
    return MODELS.build(content["model"])


def _registered() -> set[str]:
    """Return the names of all models and their parts, of all packages that are imported."""
    names: set[str] = set()
    waiting: list[Registry] = [MODELS.root, TASK_UTILS.root, WEIGHT_INITIALIZERS.root]
    while waiting:
        registry = waiting.pop()
        registry.import_from_location()
        names |= set(registry.module_dict)
        waiting += registry.children.values()
    return names
