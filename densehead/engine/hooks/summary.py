"""What a training leaves behind: curves, pictures, and a short summary of where everything is."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.visualization import LocalVisBackend

from densehead.engine.hooks.visualization import read_rgb
from densehead.files import as_typed
from densehead.registry import HOOKS, VISUALIZERS
from densehead.structures import DetDataSample
from densehead.visualization import plots

SCALARS = "files_of_scalars"


@HOOKS.register_module()
class TrainingSummaryHook(Hook):
    """After training, draws curves and detections and logs the metrics and where to find everything.

    Written to the work dir: ``curves.png`` (of all runs of a resumed training), ``detections.png`` (images of the last
    validation, truth on the left, detections on the right). Curves need the ``LocalVisBackend``, whose numbers they are
    drawn from.

    Args:
        num_images: images in ``detections.png``; none is drawn with 0.
        score_thr: lowest score of a drawn detection.
        backend_args: where images are read from, see :mod:`mmengine.fileio`.

    Raises:
        ValueError: ``num_images`` is negative.
    """

    priority = "LOWEST"

    def __init__(self, num_images: int = 8, score_thr: float = 0.3, backend_args: dict | None = None) -> None:
        if num_images < 0:
            raise ValueError(f"TrainingSummaryHook: num_images must not be negative, but got {num_images}")
        self.num_images = num_images
        self.score_thr = score_thr
        self.backend_args = backend_args
        self._metrics: dict[str, float] = {}
        self._samples: list[DetDataSample] = []

    def before_train(self, runner) -> None:
        """Note, in the checkpoints too, which files hold the numbers of this training."""
        files = list(runner.message_hub.get_info(SCALARS, []))
        file = _scalars_file(runner)
        if file is not None:
            files.append(file)
        runner.message_hub.update_info(SCALARS, files)

    def before_val(self, runner) -> None:
        """Forget the images of the validation before."""
        self._samples = []

    def after_val_iter(
        self, runner, batch_idx: int, data_batch: Any = None, outputs: Sequence[DetDataSample] | None = None
    ) -> None:
        """Keep the first images that show an object."""
        for sample in outputs or ():
            if len(self._samples) < self.num_images and len(sample.get("gt_instances", ())):
                self._samples.append(sample.to("cpu"))

    def after_val_epoch(self, runner, metrics: Mapping[str, float] | None = None) -> None:
        """Keep the metrics."""
        self._metrics = dict(metrics or {})

    @master_only
    def after_train(self, runner) -> None:
        """Draw, and log the summary."""
        folder = Path(runner.work_dir)
        files: dict[str, str | None] = {"curves": None, "detections": None}
        written = [file for file in runner.message_hub.get_info(SCALARS, []) if os.path.isfile(file)]
        records = plots.read_scalars(written)
        if records:
            files["curves"] = str(folder / "curves.png")
            plots.training_curves(records, files["curves"])
        if self._samples:
            files["detections"] = str(folder / "detections.png")
            plots.contact_sheet(self._pictures(runner), files["detections"])
        runner.logger.info("\n" + self._text(runner, files))

    def _pictures(self, runner) -> list:
        """Return RGB images, each with its truth on the left and its detections on the right."""
        drawer = VISUALIZERS.build(
            {"type": "densehead.DetLocalVisualizer", "name": f"summary_{runner.timestamp}", "vis_backends": []}
        )
        drawer.dataset_meta = runner.visualizer.dataset_meta
        pictures = []
        for sample in self._samples:
            image = read_rgb(sample.img_path, self.backend_args)
            picture = drawer.draw(image, sample, pred_score_thr=self.score_thr, style=plots.SHEET_STYLE)
            pictures.append(picture)
        return pictures

    def _text(self, runner, files: Mapping[str, str | None]) -> str:
        """Return the summary, a few aligned lines."""
        hub = runner.message_hub
        rows = [("epochs", f"{runner.epoch} of {runner.max_epochs}, {runner.iter} iterations")]
        loss = hub.log_scalars.get("train/loss")
        if loss is not None:
            count = min(50, len(loss.data[0]))
            rows.append(("loss", f"{loss.mean(count):.4f} (mean of the last {count} iterations)"))
        if self._metrics:
            rows.append(("last metrics", format_metrics(self._metrics)))
        best = hub.get_info("best_ckpt")
        if best is not None:
            rows.append(("best", f"{hub.get_info('best_score'):.4f} in {as_typed(best)}"))
        rows.append(("checkpoint", as_typed(hub.get_info("last_ckpt") or "none was written")))
        rows.append(("log", as_typed(os.path.join(runner.log_dir, f"{runner.timestamp}.log"))))
        rows += [(name, as_typed(file)) for name, file in files.items() if file is not None]
        width = max(len(name) for name, _ in rows)
        return "\n".join(["Training has ended.", *(f"  {name:<{width}}  {value}" for name, value in rows)])


def format_metrics(metrics: Mapping[str, Any]) -> str:
    """Return ``bbox_mAP 0.512  bbox_mAP_50 0.871``: the defined numbers among the metrics, without their prefix."""
    numbers = {name.rpartition("/")[2]: value for name, value in metrics.items() if isinstance(value, int | float)}
    numbers = {name: value for name, value in numbers.items() if value >= 0}
    return "  ".join(f"{name} {value:.3f}" for name, value in numbers.items())


def _scalars_file(runner) -> str | None:
    """Return the file to which the local backend of the runner's visualizer writes its numbers."""
    for backend in runner.visualizer._vis_backends.values():
        if isinstance(backend, LocalVisBackend):
            return os.path.join(runner.log_dir, "vis_data", f"{runner.timestamp}.json")
    return None
