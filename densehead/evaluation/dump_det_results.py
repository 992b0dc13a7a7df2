"""``DumpDetResults``: detections as a pickle file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmengine.evaluator import DumpResults

from densehead.registry import METRICS


@METRICS.register_module()
class DumpDetResults(DumpResults):
    """Write the samples with their detections, without the truth, to a pickle file (``tools/test.py --out``).

    Args:
        out_file_path: the file; must end in ``.pkl`` or ``.pickle``.
        collect_device: ``'cpu'`` or ``'gpu'``: how results of the processes are brought together.
        collect_dir: a directory that all processes can write to; a temporary one if None.

    Raises:
        ValueError: another ending.
    """

    TRUTH = ("gt_instances", "ignored_instances", "instances")

    def process(self, data_batch: Any, data_samples: Sequence[Mapping]) -> None:
        """Keep a batch's samples on the host; the caller's stay as they are."""
        super().process(
            data_batch, [{key: sample[key] for key in sample if key not in self.TRUTH} for sample in data_samples]
        )
