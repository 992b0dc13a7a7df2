"""Checkpoint files: written whole or not at all, found again, and read by PyTorch."""

from __future__ import annotations

from pathlib import Path

import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.runner import checkpoint

from densehead.files import whole_file
from densehead.safe_load import safe_globals

ATOMIC = "densehead_atomic"


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
    the newest ``epoch_*.pth``, ``iter_*.pth`` or ``interrupted.pth``.
    """
    folder = Path(work_dir)
    note = folder / "last_checkpoint"
    if note.is_file():
        named = Path(note.read_text(encoding="utf-8").strip())
        for path in (named, folder / named.name):
            if path.is_file():
                return str(path)
    kept = [path for pattern in ("epoch_*.pth", "iter_*.pth", "interrupted.pth") for path in folder.glob(pattern)]
    return str(max(kept, key=lambda path: path.stat().st_mtime)) if kept else None
