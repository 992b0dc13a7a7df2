"""Checkpoint files: written whole or not at all, found again, and read by PyTorch."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import print_log
from mmengine.runner import checkpoint

from densehead.damage import damage_of
from densehead.files import whole_file
from densehead.safe_load import safe_globals

ATOMIC = "densehead_atomic"
# What a training can go on from; best_*.pth have weights only
RESUMABLE = ("epoch_*.pth", "iter_*.pth", "interrupted.pth")


class AtomicBackend(LocalBackend):
    """mmengine's local files, of which none is ever seen half written.

    A process that is killed while it writes leaves the file of before. Named ``densehead_atomic``, as in
    ``checkpoint=dict(type='CheckpointHook', backend_args=dict(backend='densehead_atomic'))``.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write ``obj`` beside ``filepath`` and rename it."""
        with whole_file(filepath) as file:
            file.write(obj)


register_backend(ATOMIC, AtomicBackend, force=True)


def allow_checkpoints() -> None:
    """Let PyTorch read what mmengine writes into checkpoints besides tensors: the history of losses and metrics.

    PyTorch 2.6 and later reads nothing but tensors and plain containers unless told so. onedl-mmengine says so itself;
    the last mmengine of OpenMMLab (0.10.7) does not, and could neither resume nor test from its own checkpoints.
    """
    entries = safe_globals()
    if entries and not hasattr(checkpoint, "get_torch_safe_globals"):
        torch.serialization.add_safe_globals(entries)


allow_checkpoints()


def find_last_checkpoint(work_dir: str | Path) -> str | None:
    """Return the checkpoint from which an interrupted training goes on, or None where there is none.

    It is the one that ``last_checkpoint`` in the folder names, wherever the folder was moved to; where that is gone,
    the newest ``epoch_*.pth``, ``iter_*.pth`` or ``interrupted.pth``. Each is read to the end before it is taken: one
    that is damaged is passed over for the next older one, and the log says so.

    Raises:
        ValueError: there are checkpoints, but all are damaged.
    """
    folder = Path(work_dir)
    named = _named_checkpoint(folder)
    damaged: list[str] = []
    if named is not None and not named.is_file():
        damaged.append(f"{named} is not there")
    for path in _kept_checkpoints(folder, named):
        damage = damage_of(path)
        if damage is None:
            _report_passed_over(damaged, path)
            return str(path)
        damaged.append(f"{path} {damage}")
    if not damaged or (named is not None and not named.is_file() and len(damaged) == 1):
        return None
    raise ValueError(
        f"--resume: no checkpoint in {folder} can be gone on from: {'; '.join(damaged)}. Remove them to begin anew"
    )


def _named_checkpoint(folder: Path) -> Path | None:
    """Return what ``last_checkpoint`` names, in ``folder`` if it lies there today."""
    note = folder / "last_checkpoint"
    text = note.read_text(encoding="utf-8", errors="replace").strip("\0 \n") if note.is_file() else ""
    if not text:  # killed while it was written
        return None
    named = Path(text)
    moved = folder / named.name
    return moved if moved.is_file() and not named.is_file() else named


def _kept_checkpoints(folder: Path, named: Path | None) -> list[Path]:
    """Return the checkpoints to go on from, the best to begin with first."""
    folders = dict.fromkeys([folder, *([named.parent] if named is not None else [])])
    kept = [path for one in folders for pattern in RESUMABLE for path in one.glob(pattern)]
    kept.sort(key=lambda path: path.stat().st_mtime, reverse=True)
    first = [named] if named is not None and named.is_file() else []
    return list(dict.fromkeys(first + kept))


def _report_passed_over(damaged: list[str], taken: Path) -> None:
    if damaged and os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0")) == "0":
        text = f"--resume: {'; '.join(damaged)}. Going on from {taken} instead"
        print_log(text, logger="current", level=logging.WARNING)
