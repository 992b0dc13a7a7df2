"""Checkpoint files: written whole or not at all, found again, and read by PyTorch."""

from __future__ import annotations

import os
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from mmengine.fileio import LocalBackend, register_backend
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint

from densehead.version import parse_version

ATOMIC = "densehead_atomic"


class AtomicBackend(LocalBackend):
    """mmengine's local files, of which none is ever seen half written.

    A process that is killed while it writes leaves the file of before. Named ``densehead_atomic``, as in
    ``checkpoint=dict(type='CheckpointHook', backend_args=dict(backend='densehead_atomic'))``.
    """

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write ``obj`` beside ``filepath`` and rename it."""
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            with temporary.open("wb") as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


register_backend(ATOMIC, AtomicBackend, force=True)


def allow_checkpoints() -> None:
    """Let PyTorch read what mmengine writes into checkpoints besides tensors: the history of losses and metrics.

    PyTorch 2.6 and later reads nothing but tensors and plain containers unless told so. onedl-mmengine says so itself;
    the last mmengine of OpenMMLab (0.10.7) does not, and could neither resume nor test from its own checkpoints.
    """
    if hasattr(checkpoint, "get_torch_safe_globals") or parse_version(torch.__version__) < (2, 6):
        return
    core = np._core if hasattr(np, "_core") else np.core
    functions = {"_reconstruct": core.multiarray._reconstruct, "scalar": core.multiarray.scalar}
    # NumPy 2 moved them, and a checkpoint may be of the other NumPy
    named = [
        (made, f"numpy.{home}.multiarray.{name}") for name, made in functions.items() for home in ("core", "_core")
    ]
    kinds = {type(np.dtype(kind)) for kind in (np.uint32, np.int64, np.float32, np.float64)}
    torch.serialization.add_safe_globals([HistoryBuffer, np.ndarray, np.dtype, *kinds, *named])
    torch.serialization.add_safe_globals([(_method_of_history, "builtins.getattr")])


def _method_of_history(owner: type, name: str) -> object:
    """Stand in for ``getattr``, which a history is written with, in this one use."""
    if owner is not HistoryBuffer or name.startswith("_"):
        raise UnpicklingError(f"a checkpoint asks for {name!r} of {owner!r}, which none of mmengine does")
    return getattr(owner, name)


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
