"""Statistics of assignments over a data set."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import cv2
import torch
from mmengine.utils import ProgressBar
from torch.utils.data import DataLoader

from densehead.analysis import AssignmentStatistics, object_rows
from densehead.apis.analysis.assignment import Comparison, batch_of
from densehead.apis.analysis.columns import Shapes, read_columns
from densehead.apis.analysis.samples import try_sample
from densehead.models.heads.finite import looking


def count_assignments(
    comparison: Comparison, out_dir: str | os.PathLike, *, num_workers: int = 0
) -> AssignmentStatistics:
    """Count what heads, assigners or checkpoints do with the objects of all images of a comparison.

    A row for each object and each of what is compared goes to ``objects.csv`` on the way. Images of which the pipeline
    leaves nothing are passed over, and said at the end. On a terminal there is a progress bar.

    Args:
        comparison: of :func:`.assignment.prepare_comparison`.
        out_dir: folder of the file; made if there is none.
        num_workers: processes that load images; this one does if 0.
    """
    statistics = AssignmentStatistics(comparison.class_names)
    columns, shapes, dropped = comparison.columns, Shapes(), 0
    progress = ProgressBar(len(comparison.indices), file=sys.stderr) if sys.stderr.isatty() else None
    with object_rows(out_dir, comparison.class_names) as rows, looking("never"):
        for sample in _load(comparison, num_workers):
            if progress is not None:
                progress.update()
            if sample is None:
                dropped += 1
                continue
            batch = batch_of(columns, sample)
            name = os.path.basename(sample["data_samples"].get("img_path", ""))
            records = read_columns(columns, batch["inputs"], batch["data_samples"], shapes=shapes)
            for title, record in records.items():
                statistics.add(title, record)
                rows.add(title, record, name)
    if dropped:
        print(f"{dropped} images were passed over: the pipeline leaves no object of them")
    return statistics


def _load(comparison: Comparison, num_workers: int) -> Iterator[dict | None]:
    """Yield the samples of a comparison, None where nothing is left of an image."""
    comparison.dataset.full_init()
    options = {"collate_fn": _as_it_is, "worker_init_fn": _alone}
    yield from DataLoader(_Samples(comparison), batch_size=None, num_workers=num_workers, **options)


class _Samples:
    """The images of a comparison, in the form that PyTorch's loader takes."""

    def __init__(self, comparison: Comparison) -> None:
        self.comparison = comparison

    def __len__(self) -> int:
        return len(self.comparison.indices)

    def __getitem__(self, number: int) -> dict | None:
        one = self.comparison
        return try_sample(one.dataset, one.indices[number], one.seed)


def _as_it_is(sample: Any) -> Any:
    return sample


def _alone(worker: int) -> None:
    """Let a loading process keep to its core."""
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
