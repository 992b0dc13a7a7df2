"""The numbers that a training has logged: mmengine's ``scalars.json``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

USUAL_METRICS = ("bbox_mAP", "bbox_mAP_50", "mAP", "AP50")

Source = str | PathLike


def read_scalars(paths: Source | Sequence[Source]) -> list[dict[str, Any]]:
    """Read what mmengine's ``LocalVisBackend`` writes: ``vis_data/scalars.json``, one JSON object a line.

    Args:
        paths: a file, or those of a run and its resumptions in the order in which they ran.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is no JSON object (a last one cut off by a kill is passed over).
    """
    records = []
    for path in [paths] if isinstance(paths, (str, PathLike)) else paths:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                record = json.loads(line)
            except json.JSONDecodeError as error:
                if number < len(lines):
                    raise ValueError(f"{path}, line {number}: must be a JSON object, but {error}") from error
                continue
            if not isinstance(record, dict):
                raise ValueError(f"{path}, line {number}: must be a JSON object, but is a {type(record).__name__}")
            records.append(record)
    return records


def scalar_files(run: Source) -> list[Path]:
    """Return the files that a run and its resumptions have logged to, the first first.

    Args:
        run: the work dir of a training, the folder of one of the times it was started, or the file itself.

    Raises:
        FileNotFoundError: there is no such file or folder, or no such file in the folder.
    """
    path = Path(run)
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise FileNotFoundError(f"there is no run {path}: give a work dir, or a file vis_data/scalars.json")
    for pattern in ("scalars.json", "vis_data/scalars.json", "*/vis_data/scalars.json"):
        files = sorted(path.glob(pattern))
        if files:
            return files
    raise FileNotFoundError(
        f"{path} holds no */vis_data/scalars.json: give the work dir of a training with a LocalVisBackend"
    )


def step_of(record: Mapping[str, Any]) -> int:
    """Return the iteration of a record, or the epoch of one of a validation."""
    return record.get("step", record.get("iter", 0))


def split_records(
    records: Sequence[Mapping[str, Any]],
) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return the records of the training and of its validations, without what a resumed run went through again."""
    train = [record for record in records if loss_names([record]) or "lr" in record]
    val = [record for record in records if any("/" in name for name in record)]
    return superseded(train), superseded(val)


def superseded(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Drop what a later record of the same or an earlier step replaces."""
    kept: list[Mapping[str, Any]] = []
    for record in records:
        while kept and step_of(kept[-1]) >= step_of(record):
            kept.pop()
        kept.append(record)
    return kept


def loss_names(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of losses, the sum first."""
    names = dict.fromkeys(name for record in records for name in record if "loss" in name and "/" not in name)
    return sorted(names, key=lambda name: name != "loss")


def metric_names(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the usual metrics; of the first few others where there are none of those."""
    names = list(dict.fromkeys(name for record in records for name in record if "/" in name))
    usual = [name for name in names if name.rpartition("/")[2] in USUAL_METRICS]
    return usual or names[:4]
