"""Precision, recall and F1 of each class along the score."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from densehead.evaluation.boxes import Boxes
from densehead.evaluation.voc_ap import precision_at

RECALLS = np.linspace(0, 1, 101)  # COCO's
SCORES = np.linspace(0, 1, 201)  # at which classes are averaged


@dataclass(frozen=True)
class ClassCurve:
    """The detections of a class, best score first.

    Attributes:
        scores: (n,) descending.
        is_right: (n,) bool.
        num_gts: objects to be found.
    """

    scores: np.ndarray
    is_right: np.ndarray
    num_gts: int

    @cached_property
    def num_right(self) -> np.ndarray:
        """(n,) right ones down to each."""
        return np.cumsum(self.is_right)

    @property
    def recall(self) -> np.ndarray:
        """(n,) share of the objects that are found down to each."""
        return self.num_right / max(self.num_gts, 1)

    @property
    def precision(self) -> np.ndarray:
        """(n,) share of right ones down to each."""
        return self.num_right / np.arange(1, len(self.scores) + 1)

    @property
    def precision_at_recalls(self) -> np.ndarray:
        """(101,) the best precision at or beyond each of :data:`RECALLS`."""
        return precision_at(self.recall, self.precision, RECALLS)

    @property
    def average_precision(self) -> float:
        """COCO's: the mean precision at 101 recalls; NaN where there is nothing to be found."""
        return float(self.precision_at_recalls.mean()) if self.num_gts else float("nan")

    def at_scores(self, thresholds: Sequence[float]) -> np.ndarray:
        """Return (3, k): precision (NaN where nothing is left), recall and F1 of detections of these scores or more."""
        kept = np.searchsorted(-self.scores, -np.asarray(thresholds, dtype=np.float64), side="right")
        right = np.append(0, self.num_right)[kept]
        precision = np.divide(right, kept, out=np.full(len(kept), np.nan), where=kept > 0)
        return np.stack([precision, right / max(self.num_gts, 1), 2 * right / np.maximum(kept + self.num_gts, 1)])

    def best_threshold(self) -> float:
        """Return the score down to which detections have the best F1; NaN where no threshold is better than another.

        It lies midway between the last score that is kept and the next, so that a rounded figure keeps the same ones; 0
        keeps all.
        """
        distinct = np.flatnonzero(np.diff(self.scores, append=-np.inf))  # a threshold does not part equal scores
        if not self.num_gts or not self.is_right.any():
            return float("nan")
        f1 = 2 * self.num_right[distinct] / (distinct + 1 + self.num_gts)
        best = int(np.argmax(f1))
        if best + 1 == len(distinct):
            return 0.0
        return float(self.scores[distinct[best : best + 2]].mean())


def class_curves(scores: np.ndarray, labels: np.ndarray, is_right: np.ndarray, num_gts: np.ndarray) -> list[ClassCurve]:
    """Return the curve of each class.

    Args:
        scores, labels, is_right: (n,) of the detections that count.
        num_gts: (C,) objects of each class.
    """
    order = np.lexsort((-scores, labels))
    bounds = np.searchsorted(labels[order], np.arange(len(num_gts) + 1))
    members = (order[start:stop] for start, stop in pairwise(bounds))
    return [
        ClassCurve(scores[one], is_right[one], int(count)) for one, count in zip(members, num_gts.tolist(), strict=True)
    ]


def count_truth(truth: Boxes, num_classes: int) -> np.ndarray:
    """Return (C,) how many objects of each class count."""
    return np.bincount(truth.labels[~truth.ignored], minlength=num_classes)


def mean_average_precision(curves: Sequence[ClassCurve]) -> float:
    """Return the mean over the classes that have an object; NaN if none has."""
    averages = [curve.average_precision for curve in curves if curve.num_gts]
    return float(np.mean(averages)) if averages else float("nan")


def mean_at_scores(curves: Sequence[ClassCurve]) -> np.ndarray:
    """Return (3, 201): mean precision, recall and F1 of the classes that have an object, at :data:`SCORES`.

    Classes that have no detection left do not count in the mean of the precision, which is NaN once they are the more.
    """
    every = np.stack([curve.at_scores(SCORES) for curve in curves if curve.num_gts])
    has_precision = ~np.isnan(every[:, 0])
    total = np.where(has_precision, every[:, 0], 0).sum(0)
    count = has_precision.sum(0)
    mean = every.mean(0)
    mean[0] = np.divide(total, count, out=np.full(len(count), np.nan), where=2 * count >= len(every))
    return mean


def best_mean_threshold(curves: Sequence[ClassCurve]) -> float:
    """Return the one of :data:`SCORES` with the best mean F1 of the classes; the middle one of equally good ones."""
    f1 = mean_at_scores(curves)[2]
    best = np.flatnonzero(f1 == f1.max())
    run = best[: np.argmax(np.diff(best, append=np.inf) > 1) + 1]  # the first stretch without a gap
    return float(SCORES[run[len(run) // 2]])
