"""The report of a step whose losses are not finite: a folder with text, a picture and the batch."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from densehead.analysis.faults.fault import Fault
from densehead.analysis.faults.picture import draw_fault
from densehead.analysis.faults.step import TrainingStep, plain
from densehead.files import as_typed, whole_folder

TEXT, NUMBERS, PICTURE, BATCH, CONFIG = "report.txt", "report.json", "images.png", "step.pth", "config.py"
TOOL = "python tools/analysis/replay.py"
MOST_MEGABYTES = 2000


@dataclass(frozen=True)
class Circumstances:
    """When and how a step went wrong.

    Attributes:
        iteration, epoch: counted from 1.
        rank, world_size: which process of how many.
        classes: names of the classes.
        config: of the training.
    """

    iteration: int
    epoch: int
    rank: int = 0
    world_size: int = 1
    classes: Sequence[str] = ()
    config: Config = field(default_factory=Config)


def write_report(
    work_dir: str | os.PathLike,
    circumstances: Circumstances,
    fault: Fault,
    step: TrainingStep,
    detector: nn.Module,
    *,
    max_size: float = MOST_MEGABYTES,
) -> Path:
    """Write a folder about a step; nothing where that fails.

    It has ``report.txt`` for reading and ``report.json`` for programs, ``images.png`` of the images that something is
    wrong with, the ``config.py`` of the training and ``step.pth``: images and truth of the batch, weights before the
    step and the state of the generators of random numbers, for :func:`~densehead.analysis.faults.replay.replay`.

    Args:
        work_dir: of the training; the folder is ``loss_not_finite_iter_N`` in it, or a similar name that is free.
        circumstances: of the step.
        fault: what is wrong.
        step: the batch.
        detector: with the weights before the step.
        max_size: megabytes of the weights and images, above which ``step.pth`` is left out.

    Returns:
        The folder.
    """
    folder = _free_folder(Path(work_dir), circumstances)
    content = step.content()
    content = {"step": content, "state_dict": plain(detector.state_dict()), **_model(circumstances)}
    size = sum(value.numel() * value.element_size() for value in _tensors(content)) / 1e6
    reason = _reason_against(size, max_size, folder.parent)
    with whole_folder(folder) as unfinished:
        path = Path(unfinished)
        if reason is None:
            torch.save(content, path / BATCH)
        draw_fault(fault, step.inputs, step.samples, detector.data_preprocessor, path / PICTURE, circumstances.classes)
        (path / CONFIG).write_text(circumstances.config.pretty_text, encoding="utf-8")
        numbers = {**_numbers(circumstances), "fault": fault.as_dict()}
        (path / NUMBERS).write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
        (path / TEXT).write_text(_text(circumstances, fault, step, folder, size, reason), encoding="utf-8")
    return folder


def command(folder: str | os.PathLike) -> str:
    """Return the command that repeats the step of a report."""
    return f"{TOOL} {as_typed(folder)}"


def _free_folder(work_dir: Path, circumstances: Circumstances) -> Path:
    name = f"loss_not_finite_iter_{circumstances.iteration}"
    if circumstances.world_size > 1:
        name += f"_rank_{circumstances.rank}"
    folder, number = work_dir / name, 1
    while folder.exists():
        number += 1
        folder = work_dir / f"{name}_{number}"
    return folder


def _model(circumstances: Circumstances) -> dict[str, Any]:
    """Return what is needed to build the detector again, in plain words."""
    config = circumstances.config
    keys = ("model", "custom_imports", "default_scope")
    made = {key: plain(config.get(key), lambda value: getattr(value, "__name__", None)) for key in keys}
    return made | _numbers(circumstances)


def _numbers(circumstances: Circumstances) -> dict[str, Any]:
    return {
        "iteration": circumstances.iteration,
        "epoch": circumstances.epoch,
        "rank": circumstances.rank,
        "world_size": circumstances.world_size,
        "classes": [str(name) for name in circumstances.classes],
    }


def _reason_against(size: float, max_size: float, work_dir: Path) -> str | None:
    """Say why a batch is not written, or None."""
    free = shutil.disk_usage(work_dir).free / 1e6
    if size > max_size:
        return f"weights and batch have {size:.0f} MB, more than the {max_size:g} MB of check_losses.max_size"
    if size > 0.9 * free:
        return f"weights and batch have {size:.0f} MB, and only {free:.0f} MB of the disk are free"
    return None


def _tensors(content: Any) -> list[Tensor]:
    if isinstance(content, dict):
        content = content.values()
    elif not isinstance(content, list | tuple):
        return [content] if isinstance(content, Tensor) else []
    return [tensor for one in content for tensor in _tensors(one)]


def _text(
    circumstances: Circumstances, fault: Fault, step: TrainingStep, folder: Path, size: float, reason: str | None
) -> str:
    where = f"Iteration {circumstances.iteration}, epoch {circumstances.epoch}"
    if circumstances.world_size > 1:
        where += f", rank {circumstances.rank} of {circumstances.world_size}"
    images = [
        f"  {number}  {path or 'unknown'}  {len(sample.gt_instances)} objects"
        for number, (path, sample) in enumerate(zip(fault.paths, step.samples, strict=True))
    ]
    again = [f"To repeat the step: {command(folder)}", f"{BATCH} has {size:.0f} MB: images, truth and weights."]
    if reason is not None:
        again = [f"The step cannot be repeated: {reason}, so {BATCH} was not written."]
    return "\n".join([f"{where}:", *fault.lines(), "", "Images of the batch:", *images, "", *again, ""])
