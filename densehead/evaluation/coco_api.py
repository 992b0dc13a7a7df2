"""COCO's evaluation of boxes: curves of precision and recall from faster-coco-eval, or from pycocotools.

Both count in the same way, the first many times faster. Neither sees the ids of the user's file: images, categories
and annotations are numbered from 1 before they are handed over, so that ids may be strings (as in Pascal VOC), and an
annotation with the id 0, which both would take for "not matched", counts like any other.
"""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

#: Areas in square pixels (of the annotation: of the mask where the file has one).
AREA_RANGES = {"all": (0, 1e10), "s": (0, 32**2), "m": (32**2, 96**2), "l": (96**2, 1e10)}
BACKENDS = {
    "faster_coco_eval": ("faster_coco_eval", "COCO", "faster_coco_eval", "COCOeval_faster"),
    "pycocotools": ("pycocotools.coco", "COCO", "pycocotools.cocoeval", "COCOeval"),
}


@dataclass(frozen=True)
class CocoCurves:
    """What COCO's evaluation counts, -1 where there is no truth to count.

    Attributes:
        precision: (T, R, K, A, M) at T IoU thresholds, R = 101 recalls, K classes, the A areas of
            :data:`AREA_RANGES`, and M largest numbers of detections an image.
        recall: (T, K, A, M) the largest reached.
        iou_thrs: the T thresholds.
        max_dets: the M numbers, ascending.
    """

    precision: np.ndarray
    recall: np.ndarray
    iou_thrs: tuple[float, ...]
    max_dets: tuple[int, ...]

    def average_precision(
        self,
        *,
        iou_thr: float | None = None,
        area: str = "all",
        class_index: int | None = None,
        max_dets: int | None = None,
    ) -> float:
        """Mean precision over thresholds (or at one), recalls and classes (or of one); -1 where undefined.

        Args:
            iou_thr: one of ``iou_thrs``; all of them if None. One that was not evaluated is undefined.
            area: a name of :data:`AREA_RANGES`.
            class_index: a class; all of them if None.
            max_dets: one of ``max_dets``; the largest if None.
        """
        values = self.precision[..., list(AREA_RANGES).index(area), self._max_dets_index(max_dets)]
        return self._mean(values, iou_thr, class_index)

    def average_recall(self, *, area: str = "all", max_dets: int | None = None) -> float:
        """Mean largest recall over thresholds and classes; -1 where undefined. Arguments as above."""
        return self._mean(self.recall[..., list(AREA_RANGES).index(area), self._max_dets_index(max_dets)])

    def _max_dets_index(self, max_dets: int | None) -> int:
        return -1 if max_dets is None else self.max_dets.index(max_dets)

    def _mean(self, values: np.ndarray, iou_thr: float | None = None, class_index: int | None = None) -> float:
        if iou_thr is not None:
            values = values[np.isclose(self.iou_thrs, iou_thr)]
        if class_index is not None:
            values = values[..., class_index]
        values = values[values > -1]
        return float(values.mean()) if values.size else -1.0


def load_backend(name: str | None = None) -> tuple[type, type]:
    """Return the ``COCO`` and ``COCOeval`` classes of a backend: the named one, or the first that is installed.

    Raises:
        ImportError: it is not installed, or none is.
    """
    for candidate in [name] if name else BACKENDS:
        coco_module, coco, eval_module, evaluation = BACKENDS[candidate]
        with contextlib.suppress(ModuleNotFoundError):
            return (
                getattr(importlib.import_module(coco_module), coco),
                getattr(importlib.import_module(eval_module), evaluation),
            )
    raise ImportError(
        f"COCO metrics need {name or 'faster-coco-eval (or pycocotools)'}, which is not installed: "
        "pip install faster-coco-eval"
    )


def evaluate_boxes(
    truth: Mapping,
    detections: Sequence[Mapping],
    *,
    cat_ids: Sequence[Hashable],
    iou_thrs: Sequence[float],
    max_dets: Sequence[int],
    backend: str | None = None,
) -> CocoCurves:
    """Compare detections with the truth as COCO does (https://cocodataset.org/#detection-eval).

    Args:
        truth: a COCO annotation file's content; ``iscrowd`` (0) and ``area`` (that of the box) may be missing.
        detections: COCO results: ``image_id``, ``category_id``, ``bbox`` (x, y, width, height in pixels), ``score``.
        cat_ids: the categories that count; they are the classes of the result, in this order.
        iou_thrs: thresholds of the IoU.
        max_dets: largest numbers of detections an image and class, those with the best scores.
        backend: a name of :data:`BACKENDS`; the first that is installed if None.

    Raises:
        ImportError: the backend is not installed.
    """
    coco_class, eval_class = load_backend(backend)
    image_number = {image["id"]: number for number, image in enumerate(truth["images"], 1)}
    category_number = {cat_id: number for number, cat_id in enumerate(cat_ids, 1)}
    gt = _numbered(truth["annotations"], image_number, category_number)
    dt = _numbered(detections, image_number, category_number)
    max_dets = tuple(sorted(set(max_dets)))
    if not image_number or not category_number:
        return _undefined(len(cat_ids), iou_thrs, max_dets)
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints
        evaluation = eval_class(
            _index(coco_class, gt, image_number, category_number),
            _index(coco_class, dt, image_number, category_number),
            "bbox",
        )
        params = evaluation.params
        params.imgIds = list(image_number.values())
        params.catIds = list(category_number.values())
        params.iouThrs = np.asarray(iou_thrs, dtype=np.float64)
        params.maxDets = list(max_dets)
        params.areaRng = [list(limits) for limits in AREA_RANGES.values()]
        params.areaRngLbl = list(AREA_RANGES)
        evaluation.evaluate()
        evaluation.accumulate()
    precision, recall = (np.asarray(evaluation.eval[name], dtype=np.float64) for name in ("precision", "recall"))
    return CocoCurves(precision, recall, tuple(iou_thrs), max_dets)


def _numbered(annotations: Sequence[Mapping], image_number: Mapping, category_number: Mapping) -> list[dict]:
    """Copy what counts of truth or detections, with ids that count from 1."""
    counted = [a for a in annotations if a["image_id"] in image_number and a["category_id"] in category_number]
    return [
        {
            "id": number,
            "image_id": image_number[annotation["image_id"]],
            "category_id": category_number[annotation["category_id"]],
            "bbox": annotation["bbox"],
            "area": annotation.get("area", annotation["bbox"][2] * annotation["bbox"][3]),
            "iscrowd": int(annotation.get("iscrowd", 0)),
            "score": annotation.get("score", 1.0),
        }
        for number, annotation in enumerate(counted, 1)
    ]


def _index(coco_class: type, annotations: list[dict], image_number: Mapping, category_number: Mapping):
    coco = coco_class()
    coco.dataset = {
        "images": [{"id": number} for number in image_number.values()],
        "categories": [{"id": number, "name": str(number)} for number in category_number.values()],
        "annotations": annotations,
    }
    coco.createIndex()
    return coco


def _undefined(num_classes: int, iou_thrs: Sequence[float], max_dets: tuple[int, ...]) -> CocoCurves:
    shape = (len(iou_thrs), 101, num_classes, len(AREA_RANGES), len(max_dets))
    precision = np.full(shape, -1.0)
    return CocoCurves(precision, precision[:, 0], tuple(iou_thrs), max_dets)
