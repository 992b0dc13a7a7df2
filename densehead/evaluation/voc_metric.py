"""``VOCMetric``: Pascal VOC's average precision of boxes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.logging import MMLogger

from densehead.evaluation.boxes import joined_detections, joined_truth
from densehead.evaluation.samples import check_labels, class_names, detections_of, truth_of, warn_of_resized_truth
from densehead.evaluation.tables import format_table, format_value
from densehead.evaluation.voc_ap import EVAL_MODES, ClassResult, evaluate_classes
from densehead.registry import METRICS

USUAL_MODE = {"VOC2007": "11points", "VOC2012": "area"}


@METRICS.register_module()
class VOCMetric(BaseMetric):
    """Average precision of detected boxes as Pascal VOC defines it.

    The results are ``mAP``, the mean over the thresholds, and ``AP50`` (and so on) at each of them; classes without
    truth do not count. The truth is taken from the data samples, whose boxes must be in pixels of the original image
    (``LoadAnnotations`` after the transforms that change the size); ignored objects are difficult ones. Values are not
    rounded.

    Args:
        iou_thrs: one IoU threshold or more.
        scale_ranges: only None; :class:`CocoMetric` reports by object size.
        metric: ``'mAP'``; the recall of proposals needs a first stage, which nothing here has.
        proposal_nums: accepted and without effect, since it belongs to the recall of proposals.
        eval_mode: ``'11points'`` (the rule of VOC 2007) or ``'area'`` (since VOC 2010).
        collect_device: ``'cpu'`` or ``'gpu'``: how results of the processes are brought together.
        prefix: first part of the names of the results; ``'pascal_voc'`` if None.

    Raises:
        ValueError: a key does not fit; the message says which.
    """

    default_prefix = "pascal_voc"

    def __init__(
        self,
        iou_thrs: float | Sequence[float] = 0.5,
        scale_ranges: None = None,
        metric: str | Sequence[str] = "mAP",
        proposal_nums: Sequence[int] = (100, 300, 1000),
        eval_mode: str = "11points",
        collect_device: str = "cpu",
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if ([metric] if isinstance(metric, str) else list(metric)) != ["mAP"]:
            raise ValueError(f"VOCMetric.metric must be 'mAP', but got {metric!r}")
        if scale_ranges is not None:
            raise ValueError(
                f"VOCMetric.scale_ranges must be None, but got {scale_ranges!r}: CocoMetric (without ann_file it takes "
                "the truth from the data samples) reports by object size"
            )
        if eval_mode not in EVAL_MODES:
            raise ValueError(f"VOCMetric.eval_mode must be one of {EVAL_MODES}, but got {eval_mode!r}")
        self.iou_thrs = np.atleast_1d(iou_thrs).tolist()
        self.eval_mode = eval_mode

    def process(self, data_batch: Any, data_samples: Sequence[Mapping]) -> None:
        """Keep truth and detections of a batch.

        Args:
            data_batch: not read.
            data_samples: the samples as dicts, with ``gt_instances``, perhaps ``ignored_instances``, and
                ``pred_instances`` (``bboxes`` xyxy in pixels of the original image, ``scores``, ``labels``).

        Raises:
            ValueError: a sample has no truth.
        """
        for sample in data_samples:
            self.results.append((truth_of(sample, needed_by="VOCMetric"), detections_of(sample)))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the metrics of what all processes kept.

        Args:
            results: pairs of truth and detections of an image, from :meth:`process`.

        Returns:
            Names and values.
        """
        logger = MMLogger.get_current_instance()
        classes = class_names(self.dataset_meta, "VOCMetric")
        dataset_type = self.dataset_meta.get("dataset_type")
        if USUAL_MODE.get(dataset_type, self.eval_mode) != self.eval_mode:
            logger.warning(
                f"{dataset_type} is usually evaluated with eval_mode={USUAL_MODE[dataset_type]!r}, not with "
                f"{self.eval_mode!r}: the figures do not compare with published ones"
            )
        warn_of_resized_truth([image for image, _ in results], logger)
        truth = joined_truth([image["anns"] for image, _ in results])
        detections = joined_detections([detected for _, detected in results])
        check_labels(detections.labels, len(classes), "the data set")
        values: dict[str, float] = {}
        for iou_thr in self.iou_thrs:
            per_class = evaluate_classes(
                detections, truth, num_classes=len(classes), iou_thr=iou_thr, eval_mode=self.eval_mode
            )
            averages = [result.average_precision for result in per_class if result.num_gts]
            values[f"AP{round(iou_thr * 100):02d}"] = float(np.mean(averages)) if averages else 0.0
            logger.info(f"IoU >= {iou_thr}\n" + _table(classes, per_class, averages))
        return {"mAP": float(np.mean(list(values.values()))), **values}


def _table(classes: Sequence[str], per_class: Sequence[ClassResult], averages: Sequence[float]) -> str:
    rows = [
        [
            name,
            str(result.num_gts),
            str(result.num_dets),
            format_value(result.recall if result.num_gts else -1),
            format_value(result.average_precision if result.num_gts else -1),
        ]
        for name, result in zip(classes, per_class, strict=True)
    ]
    footer = ["mAP", "", "", "", format_value(float(np.mean(averages)) if averages else -1)]
    return format_table(("class", "gts", "dets", "recall", "AP"), rows, footer)
