"""Pictures of detections while validating and testing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import mmcv
import numpy as np
from mmengine.fileio import get
from mmengine.hooks import Hook
from mmengine.visualization import Visualizer

from densehead.datasets.image_limit import require_decodable
from densehead.registry import HOOKS
from densehead.structures import DetDataSample


@HOOKS.register_module()
class DetVisualizationHook(Hook):
    """Draws detections beside the truth, by the runner's visualizer.

    While training, one image of a validation goes to the visualizer's backends every ``interval`` iterations; while
    testing every image does, to a folder, a window or the backends.

    Args:
        draw: whether anything is drawn.
        interval: iterations between two drawn images of validation.
        score_thr: lowest score of a drawn detection.
        show: open a window for each image; nothing is kept then.
        wait_time: how long a window stays open, seconds.
        test_out_dir: folder for the images of a test, inside ``<work_dir>/<timestamp>`` unless it is an absolute path.
        backend_args: where images are read from, see :mod:`mmengine.fileio`.

    Raises:
        ValueError: ``interval`` is not positive.
    """

    def __init__(
        self,
        draw: bool = False,
        interval: int = 50,
        score_thr: float = 0.3,
        show: bool = False,
        wait_time: float = 0.0,
        test_out_dir: str | None = None,
        backend_args: dict | None = None,
    ) -> None:
        if interval < 1:
            raise ValueError(f"default_hooks.visualization.interval must be at least 1, but got {interval}")
        self._visualizer: Visualizer = Visualizer.get_current_instance()
        if show:
            self._visualizer._vis_backends = {}
        self.draw = draw
        self.interval = interval
        self.score_thr = score_thr
        self.show = show
        self.wait_time = wait_time
        self.test_out_dir = test_out_dir
        self.backend_args = backend_args
        self._test_index = 0

    def after_val_iter(
        self, runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[DetDataSample] | None = None
    ) -> None:
        """Draw the first image of the batch, if it is its turn."""
        step = runner.iter + batch_idx
        if not self.draw or not outputs or step % self.interval:
            return
        name = os.path.basename(outputs[0].img_path) if self.show else "val_img"
        self._add(name, outputs[0], step)

    def after_test_iter(
        self, runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[DetDataSample] | None = None
    ) -> None:
        """Draw every image of the batch."""
        if not self.draw:
            return
        for sample in outputs or ():
            self._test_index += 1
            file = os.path.basename(sample.img_path)
            out_file = None
            if self.test_out_dir is not None:
                out_file = os.path.join(runner.work_dir, runner.timestamp, self.test_out_dir, file)
            self._add(file if self.show else "test_img", sample, self._test_index, out_file)

    def _add(self, name: str, sample: DetDataSample, step: int, out_file: str | None = None) -> None:
        self._visualizer.add_datasample(
            name,
            read_rgb(sample.img_path, self.backend_args),
            data_sample=sample,
            show=self.show,
            wait_time=self.wait_time,
            pred_score_thr=self.score_thr,
            out_file=out_file,
            step=step,
        )


def read_rgb(path: str, backend_args: dict | None = None) -> np.ndarray:
    """Return an image file as (height, width, 3) RGB of bytes."""
    data = get(path, backend_args=backend_args)
    require_decodable(data, path)
    return mmcv.imfrombytes(data, channel_order="rgb")
