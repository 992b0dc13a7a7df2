"""Read the reference numbers of ``tests/data/golden`` (its README says what the arrays are)."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch

FOLDER = Path(__file__).parent / "data" / "golden"


def cases(prefix: str = "") -> list[str]:
    """Return the names of the cases that start with ``prefix``, sorted; raise where there are none.

    An empty list would parametrise a test away without a word.
    """
    names = sorted(path.stem for path in FOLDER.glob(f"{prefix}*.npz"))
    if not names:
        raise ValueError(f"no golden case starts with {prefix!r} in {FOLDER}")
    return names


def load(name: str) -> tuple[dict, dict[str, torch.Tensor]]:
    """Return a case's ``meta`` and its arrays, as tensors of their own memory."""
    with np.load(FOLDER / f"{name}.npz", allow_pickle=False) as file:
        meta = json.loads(str(file["meta"]))
        arrays = {key: torch.from_numpy(np.array(file[key])) for key in file.files if key != "meta"}
    return meta, arrays


def assert_close(value: torch.Tensor, reference: torch.Tensor, *, relative: float, name: str = "value") -> None:
    """Compare to ``relative`` of the reference's largest entry (gradients: 1e-3, losses: 2e-4)."""
    assert value.shape == reference.shape, f"{name}: shape {tuple(value.shape)}, expected {tuple(reference.shape)}"
    if not reference.numel():
        return
    allowed = relative * reference.abs().max().item() + 1e-7
    worst = (value.detach() - reference).abs().max().item()
    assert worst <= allowed, f"{name}: off by {worst:.3g}, allowed {allowed:.3g}"
