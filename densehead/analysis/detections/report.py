"""All that is found out about the detections of a data set, in one go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from densehead.analysis.detections import curves as along
from densehead.analysis.detections.breakdown import LOOSE_IOU, forgiving_curves
from densehead.analysis.detections.confusion import confusion_matrix, most_confused
from densehead.analysis.detections.curves import ClassCurve
from densehead.analysis.detections.errors import (
    FALSE_NEGATIVES,
    FALSE_POSITIVES,
    KINDS,
    Cost,
    Errors,
    cost_of_errors,
    find_errors,
)
from densehead.analysis.detections.images import ImageScores, score_images
from densehead.analysis.detections.matching import Matches, match
from densehead.analysis.detections.overlaps import find_overlaps
from densehead.evaluation.boxes import Boxes

BACKGROUND_IOU = 0.1  # TIDE's t_b


@dataclass(frozen=True)
class DetectionReport:
    """What :func:`analyse` found.

    Attributes:
        classes: names.
        iou_thr: IoU from which on a detection finds an object.
        score_thr: lowest score of the detections that confusions and images are counted with.
        num_images: how many images there are.
        curves: of each class.
        confusion: (C + 2, C + 1), see :func:`confusion_matrix`.
        matches: who found whom.
        is_kept: (n,) bool, detections of ``score_thr`` or more.
        errors: the kind of every error.
        costs: by kind.
        forgiving: (101,) mean precisions, see :func:`forgiving_curves`.
        images: what was counted in each image.
    """

    classes: tuple[str, ...]
    iou_thr: float
    score_thr: float
    num_images: int
    curves: list[ClassCurve]
    confusion: np.ndarray
    matches: Matches
    is_kept: np.ndarray
    errors: Errors
    costs: dict[str, Cost]
    forgiving: dict[str, np.ndarray]
    images: ImageScores

    @property
    def mean_average_precision(self) -> float:
        """Mean AP at ``iou_thr`` of the classes that have an object."""
        return along.mean_average_precision(self.curves)

    def class_rows(self) -> list[dict[str, Any]]:
        """Return a row for each class, and one for the mean: AP, the best threshold, and what is reached with it."""
        rows = [
            _row(name, curve, curve.best_threshold()) for name, curve in zip(self.classes, self.curves, strict=True)
        ]
        threshold = along.best_mean_threshold(self.curves)
        place = int(np.argmin(np.abs(along.SCORES - threshold)))
        reached = dict(zip(("precision", "recall", "f1"), along.mean_at_scores(self.curves)[:, place], strict=True))
        counts = {key: sum(row[key] for row in rows) for key in ("objects", "detections")}
        mean = {"class": "mean", **counts, "ap": self.mean_average_precision, "threshold": threshold}
        return [*rows, {**mean, **{key: float(value) for key, value in reached.items()}}]

    def error_rows(self) -> list[dict[str, Any]]:
        """Return a row for each kind of error.

        ``count`` is how often it was made, ``kept`` how often by detections of ``score_thr`` or more (None for missed
        objects, which depend on all), ``gain`` what the mean AP gains without it.
        """
        kept = {kind: int((self.errors.is_of(kind) & self.is_kept).sum()) for kind in KINDS[:-1]}
        kept[FALSE_POSITIVES] = int((self.matches.is_wrong & self.is_kept).sum())
        kept[FALSE_NEGATIVES] = int(self.images.missed.sum())
        return [
            {"kind": kind, "count": int(cost.count.sum()), "kept": kept.get(kind), "gain": cost.mean_gain}
            for kind, cost in self.costs.items()
        ]

    def confused(self, count: int = 10) -> list[dict[str, Any]]:
        """Return the most frequent confusions of two classes."""
        return [
            {"true": self.classes[row], "detected": self.classes[column], "count": times}
            for row, column, times in most_confused(self.confusion, count)
        ]

    def summary(self) -> dict[str, Any]:
        """Return what goes into a JSON file."""
        return {
            "iou_thr": self.iou_thr,
            "score_thr": self.score_thr,
            "images": self.num_images,
            "objects": sum(curve.num_gts for curve in self.curves),
            "detections": int((~self.matches.is_ignored).sum()),
            "mean_ap": self.mean_average_precision,
            "classes": self.class_rows(),
            "errors": self.error_rows(),
            "confused": self.confused(),
            "forgiving_ap": {name: float(values.mean()) for name, values in self.forgiving.items()},
        }


def analyse(
    detections: Boxes,
    truth: Boxes,
    *,
    classes: Sequence[str],
    num_images: int,
    iou_thr: float = 0.5,
    score_thr: float | None = None,
    supercategories: Sequence[int] | None = None,
) -> DetectionReport:
    """Find out what is right and what is wrong with detections.

    Args:
        detections: with scores.
        truth: with what is ignored.
        classes: names.
        num_images: how many images there are.
        iou_thr: IoU from which on a detection finds an object, above 0.1 and at most 1.
        score_thr: lowest score of the detections that confusions and images are counted with; that of the best mean F1
            if None.
        supercategories: (C,) which classes are similar.

    Raises:
        ValueError: another ``iou_thr`` or ``score_thr``, or no object to be found.
    """
    if not BACKGROUND_IOU < iou_thr <= 1:
        raise ValueError(f"the IoU threshold must be above {BACKGROUND_IOU} and at most 1, but got {iou_thr}")
    if score_thr is not None and not 0 <= score_thr <= 1:
        raise ValueError(f"the score threshold must be from 0 to 1, but got {score_thr}")
    num_gts = along.count_truth(truth, len(classes))
    if not num_gts.sum():
        raise ValueError(f"there is no object to be found in {num_images} images: nothing can be said about detections")
    overlaps = find_overlaps(detections, truth, least=min(BACKGROUND_IOU, LOOSE_IOU))
    matches = match(detections, truth, overlaps, iou_thr=iou_thr)
    counts = ~matches.is_ignored
    curves = along.class_curves(detections.scores[counts], detections.labels[counts], matches.is_right[counts], num_gts)
    score_thr = along.best_mean_threshold(curves) if score_thr is None else score_thr
    errors = find_errors(detections, truth, overlaps, matches, iou_thr=iou_thr, background_iou=BACKGROUND_IOU)
    return DetectionReport(
        classes=tuple(classes),
        iou_thr=iou_thr,
        score_thr=score_thr,
        num_images=num_images,
        curves=curves,
        confusion=confusion_matrix(
            detections, truth, overlaps, num_classes=len(classes), iou_thr=iou_thr, score_thr=score_thr
        ),
        matches=matches,
        is_kept=detections.scores >= score_thr,
        errors=errors,
        costs=cost_of_errors(detections, truth, matches, errors, len(classes)),
        forgiving=forgiving_curves(
            detections, truth, overlaps, num_classes=len(classes), supercategories=supercategories
        ),
        images=score_images(detections, truth, matches, num_images=num_images, score_thr=score_thr),
    )


def _row(name: str, curve: ClassCurve, threshold: float) -> dict[str, Any]:
    kept = threshold if not np.isnan(threshold) else 0.0
    precision, recall, f1 = curve.at_scores([kept])[:, 0].tolist()
    counts = {"objects": curve.num_gts, "detections": len(curve.scores), "ap": curve.average_precision}
    if not curve.num_gts:
        recall = f1 = float("nan")
    return {"class": name, **counts, "threshold": threshold, "precision": precision, "recall": recall, "f1": f1}
