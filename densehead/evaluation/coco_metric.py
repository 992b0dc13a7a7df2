"""``CocoMetric``: COCO's average precision of boxes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.fileio import dump
from mmengine.logging import MMLogger

from densehead.evaluation.coco_api import CocoCurves, evaluate_boxes
from densehead.evaluation.coco_json import category_ids, detections_to_coco, load_annotation_file, truth_to_coco
from densehead.evaluation.samples import class_names, detections_of, image_of, truth_of, warn_of_resized_truth
from densehead.evaluation.tables import format_table, format_value
from densehead.registry import METRICS

IOU_THRS = tuple(np.linspace(0.5, 0.95, 10).tolist())


@METRICS.register_module()
class CocoMetric(BaseMetric):
    """Average precision and recall of detected boxes as COCO defines them.

    The results are ``bbox_mAP``, ``bbox_mAP_50``, ``bbox_mAP_75`` and, by object area, ``bbox_mAP_s``, ``_m``, ``_l``;
    -1 where there is no truth to measure by. ``bbox_mAP`` counts the 100 best detections an image (if 100 is in
    ``proposal_nums``), the others the largest of ``proposal_nums``. Values are not rounded.

    Classes and categories of the file are matched by name, in any order; categories that are no class are left out.

    Args:
        ann_file: COCO annotation file. Without one the truth is taken from the data samples: their ``instances``
            (mmdetection's list of dicts), or else ``gt_instances`` and ``ignored_instances``, whose boxes must be in
            pixels of the original image (``LoadAnnotations`` after the transforms that change the size).
        metric: ``'bbox'``, the only one here.
        classwise: add ``<class>_precision`` (NaN for a class without truth) to the results and a table to the log.
        proposal_nums: largest numbers of detections an image.
        iou_thrs: IoU thresholds; 0.5, 0.55, ..., 0.95 if None.
        metric_items: what to report of ``mAP``, ``mAP_50``, ``mAP_75``, ``mAP_s``, ``mAP_m``, ``mAP_l``, ``AR@n`` for
            every ``n`` in ``proposal_nums``, and ``AR_s@n``, ``AR_m@n``, ``AR_l@n`` for the largest; the six ``mAP`` if
            None.
        format_only: write the detections and compute nothing, for a test set whose truth is not public.
        outfile_prefix: write the detections to ``<prefix>.bbox.json`` in COCO's result format and, where there is no
            ``ann_file``, the truth to ``<prefix>.gt.json``. Nothing is written if None.
        file_client_args: mmdetection's old name of ``backend_args``; refused.
        backend_args: where files are read from, see :mod:`mmengine.fileio`.
        collect_device: ``'cpu'`` or ``'gpu'``: how results of the processes are brought together.
        prefix: first part of the names of the results; ``'coco'`` if None.
        sort_categories: accepted and without effect, since classes are matched by name.
        use_mp_eval: accepted and without effect, since faster-coco-eval needs no more processes.

    Raises:
        ValueError: a key, the annotation file or the classes do not fit; the message says which and what to do.
        FileNotFoundError: there is no ``ann_file``.
    """

    default_prefix = "coco"

    def __init__(
        self,
        ann_file: str | None = None,
        metric: str | Sequence[str] = "bbox",
        classwise: bool = False,
        proposal_nums: Sequence[int] = (100, 300, 1000),
        iou_thrs: float | Sequence[float] | None = None,
        metric_items: Sequence[str] | None = None,
        format_only: bool = False,
        outfile_prefix: str | None = None,
        file_client_args: dict | None = None,
        backend_args: dict | None = None,
        collect_device: str = "cpu",
        prefix: str | None = None,
        sort_categories: bool = False,
        use_mp_eval: bool = False,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        self.metrics = [metric] if isinstance(metric, str) else list(metric)
        if self.metrics != ["bbox"]:
            raise ValueError(
                f"CocoMetric.metric must be 'bbox', since densehead detects boxes only, but got {metric!r}"
            )
        if file_client_args is not None:
            raise ValueError(
                "CocoMetric.file_client_args is no longer a key of OpenMMLab's: write backend_args instead"
            )
        if format_only and outfile_prefix is None:
            raise ValueError(
                "CocoMetric.format_only=True writes the detections and nothing else, so it needs outfile_prefix "
                "(such as 'work_dirs/my_run/test'), but that is None"
            )
        self.ann_file = ann_file
        self.classwise = classwise
        self.proposal_nums = sorted(proposal_nums)
        self.iou_thrs = IOU_THRS if iou_thrs is None else tuple(np.atleast_1d(iou_thrs).tolist())
        self.metric_items = list(metric_items) if metric_items is not None else None
        self._check_metric_items()
        self.format_only = format_only
        self.outfile_prefix = outfile_prefix
        self.backend_args = backend_args
        self._truth = load_annotation_file(ann_file, backend_args, needs_truth=not format_only) if ann_file else None

    @property
    def dataset_meta(self) -> dict | None:
        """Metainfo of the data set; its ``classes`` are looked up in the annotation file as soon as it is set."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, dataset_meta: Mapping) -> None:
        self._dataset_meta = dataset_meta
        if self._truth is not None:
            category_ids(self._truth, self._classes(), self.ann_file)

    def process(self, data_batch: Any, data_samples: Sequence[Mapping]) -> None:
        """Keep truth and detections of a batch.

        Args:
            data_batch: not read.
            data_samples: the samples as dicts, with ``img_id``, ``ori_shape`` and ``pred_instances`` (``bboxes`` xyxy
                in pixels of the original image, ``scores``, ``labels``).

        Raises:
            ValueError: there is neither ``ann_file`` nor truth in a sample.
        """
        for sample in data_samples:
            if self._truth is None:
                image = truth_of(sample, needed_by="CocoMetric without ann_file")
            else:
                image = image_of(sample)
            self.results.append((image, {"img_id": sample["img_id"], **detections_of(sample)}))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the metrics of what all processes kept.

        Args:
            results: pairs of truth and detections of an image, from :meth:`process`.

        Returns:
            Names and values; empty if ``format_only``.
        """
        logger = MMLogger.get_current_instance()
        images = [image for image, _ in results]
        truth = self._truth if self._truth is not None else self._converted_truth(images, logger)
        cat_ids = category_ids(truth, self._classes(), self.ann_file)
        detections = self._detections([detected for _, detected in results], cat_ids, logger)
        if self.format_only:
            logger.info(f"{len(detections)} detections of {len(images)} images were written to {self._bbox_file}")
            return {}
        self._check_images(truth, images, logger)
        if not detections:
            logger.warning(f"nothing was detected in {len(images)} images: the metrics are 0 (-1 where undefined)")
        curves = evaluate_boxes(truth, detections, cat_ids=cat_ids, iou_thrs=self.iou_thrs, max_dets=self.proposal_nums)
        return self._summary(curves, logger)

    def _converted_truth(self, images: Sequence[Mapping], logger: logging.Logger) -> dict:
        """The truth of the data samples as the content of a COCO file, also written if there is a prefix."""
        warn_of_resized_truth(images, logger)
        truth = truth_to_coco(images, self._classes())
        if self.outfile_prefix is not None:
            dump(truth, f"{self.outfile_prefix}.gt.json")
        return truth

    def _detections(self, results: Sequence[Mapping], cat_ids: Sequence, logger: logging.Logger) -> list[dict]:
        """The detections in COCO's result format, also written if there is a prefix."""
        detections = detections_to_coco(results, cat_ids, logger)
        if self.outfile_prefix is not None:
            dump(detections, self._bbox_file)
        return detections

    @property
    def _bbox_file(self) -> str:
        return f"{self.outfile_prefix}.bbox.json"

    def _classes(self) -> Sequence[str]:
        return class_names(self._dataset_meta, "CocoMetric")

    def _check_images(self, truth: Mapping, images: Sequence[Mapping], logger: logging.Logger) -> None:
        in_file, seen = {image["id"] for image in truth["images"]}, {image["img_id"] for image in images}
        unknown = seen - in_file
        if unknown:
            raise ValueError(
                f"CocoMetric.ann_file={self.ann_file!r} has no image with the id {min(unknown, key=str)!r} and "
                f"{len(unknown) - 1} more of the {len(seen)} images that were evaluated: give the metric the ann_file "
                "of the data set of its dataloader"
            )
        if len(seen) < len(in_file):
            logger.warning(
                f"{len(seen)} images were evaluated, but {self.ann_file} has {len(in_file)}: "
                "the others count as images in which nothing was detected"
            )

    def _check_metric_items(self) -> None:
        known = _items(self.proposal_nums)
        unknown = [item for item in self.metric_items or () if item not in known]
        if unknown:
            raise ValueError(f"CocoMetric.metric_items has {unknown}, but must be some of {list(known)}")

    def _summary(self, curves: CocoCurves, logger: logging.Logger) -> dict[str, float]:
        """Write the tables and return the metrics."""
        precision = [_row("all classes", curves, None)]
        values: dict[str, float] = {}
        if self.classwise:
            names = self._classes()
            precision = [_row(name, curves, index) for index, name in enumerate(names)]
            for index, name in enumerate(names):
                ap = curves.average_precision(class_index=index)
                values[f"{name}_precision"] = ap if ap >= 0 else float("nan")
        every = {name: read(curves) for name, read in _items(self.proposal_nums).items()}
        items = self.metric_items if self.metric_items is not None else list(every)[:6]
        values.update({f"bbox_{name}": every[name] for name in items})
        footer = _row("all classes", curves, None) if self.classwise else None
        header = ("category", "mAP", "mAP_50", "mAP_75", "mAP_s", "mAP_m", "mAP_l")
        logger.info("\n" + format_table(header, precision, footer))
        logger.info("  ".join(f"{name} {format_value(value)}" for name, value in list(every.items())[6:]))
        logger.info("bbox_mAP_copypaste: " + " ".join(f"{value:.3f}" for value in list(every.values())[:6]))
        return values


def _items(proposal_nums: Sequence[int]) -> dict[str, Any]:
    """Names of what COCO reports, with the way to read each from the curves."""
    most = proposal_nums[-1]
    at_100 = 100 if 100 in proposal_nums else most
    items: dict[str, Any] = {
        "mAP": lambda curves: curves.average_precision(max_dets=at_100),
        "mAP_50": lambda curves: curves.average_precision(iou_thr=0.5),
        "mAP_75": lambda curves: curves.average_precision(iou_thr=0.75),
    }
    for area in "sml":
        items[f"mAP_{area}"] = lambda curves, area=area: curves.average_precision(area=area)
    for number in proposal_nums:
        items[f"AR@{number}"] = lambda curves, number=number: curves.average_recall(max_dets=number)
    for area in "sml":
        items[f"AR_{area}@{most}"] = lambda curves, area=area: curves.average_recall(area=area)
    return items


def _row(name: str, curves: CocoCurves, class_index: int | None) -> list[str]:
    """Cells of the table for one class, or for all."""
    selections: list[dict] = [{}, {"iou_thr": 0.5}, {"iou_thr": 0.75}, {"area": "s"}, {"area": "m"}, {"area": "l"}]
    values = [curves.average_precision(class_index=class_index, **selection) for selection in selections]
    return [name, *map(format_value, values)]
