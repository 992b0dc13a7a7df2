"""What is wrong with wrong detections, and how much AP each kind of error costs.

Bolya, Foley, Hays and Hoffman, "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020, section 2.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from densehead.analysis.detections.curves import class_curves, count_truth
from densehead.analysis.detections.matching import Matches
from densehead.analysis.detections.overlaps import Overlaps
from densehead.evaluation.boxes import Boxes

CLASSIFICATION, LOCALISATION, BOTH, DUPLICATE, BACKGROUND, MISSED = KINDS = (
    "classification",
    "localisation",
    "both",
    "duplicate",
    "background",
    "missed",
)
FALSE_POSITIVES, FALSE_NEGATIVES = "false positives", "false negatives"
MEANING = {
    CLASSIFICATION: "a box of an object, the class of another",
    LOCALISATION: "the class of an object, a box that overlaps it too little",
    BOTH: "a box that overlaps an object of another class too little",
    DUPLICATE: "an object that a better scored detection has found",
    BACKGROUND: "no object there",
    MISSED: "an object that no detection found, rightly or almost",
    FALSE_POSITIVES: "all wrong detections",
    FALSE_NEGATIVES: "all objects that are not found",
}
REPAIRABLE = (CLASSIFICATION, LOCALISATION)
RIGHT = -1


@dataclass(frozen=True)
class Errors:
    """The kind of every error.

    Attributes:
        kind: (n,) index into :data:`KINDS` of each detection; :data:`RIGHT` for one that is right or does not count.
        target: (n,) the object that a detection would find were its class or its box corrected; -1 for other errors.
        is_missed: (m,) bool, objects that are not found and that no such detection would find.
    """

    kind: np.ndarray
    target: np.ndarray
    is_missed: np.ndarray

    def is_of(self, kind: str) -> np.ndarray:
        """(n,) bool, detections with an error of this kind."""
        return self.kind == KINDS.index(kind)


@dataclass(frozen=True)
class Cost:
    """What an error costs.

    Attributes:
        count: (C,) how often it was made, by the class of the detection (of the object where that is missed).
        gain: (C,) by how much the AP of each class grows without it; NaN where there is nothing to be found.
        mean_gain: by how much the mean AP grows.
    """

    count: np.ndarray
    gain: np.ndarray
    mean_gain: float


@dataclass(frozen=True)
class _Outcome:
    """What average precisions are made of; the detections whose ``counts`` is False are left out."""

    scores: np.ndarray
    labels: np.ndarray
    is_right: np.ndarray
    counts: np.ndarray
    num_gts: np.ndarray

    def averages(self) -> np.ndarray:
        """(C,) average precisions; NaN where there is nothing to be found."""
        detections = (one[self.counts] for one in (self.scores, self.labels, self.is_right))
        return np.array([curve.average_precision for curve in class_curves(*detections, self.num_gts)])


def find_errors(
    detections: Boxes, truth: Boxes, overlaps: Overlaps, matches: Matches, *, iou_thr: float, background_iou: float
) -> Errors:
    """Say what is wrong with each wrong detection.

    The kinds are looked for in this order, that of the authors' tool: localisation, classification, duplicate,
    background; what is left is both in the wrong place and of the wrong class.

    Args:
        detections: with scores.
        truth: with what is ignored.
        overlaps: their pairs, down to ``background_iou``.
        matches: who found whom, at ``iou_thr`` and within classes.
        iou_thr: IoU from which on a box is that of an object (the paper's t_f).
        background_iou: IoU below which it has nothing to do with it (t_b).
    """
    pairs = overlaps.take(~overlaps.is_ignored & (overlaps.iou >= background_iou))
    own, own_gt = _best(pairs.take(pairs.is_same_class), len(detections))
    other, other_gt = _best(pairs.take(~pairs.is_same_class), len(detections))
    conditions = {
        LOCALISATION: (own >= background_iou) & (own < iou_thr),
        CLASSIFICATION: other >= iou_thr,
        DUPLICATE: own >= iou_thr,
        BACKGROUND: np.maximum(own, other) < background_iou,
    }
    kind = np.select(list(conditions.values()), [KINDS.index(name) for name in conditions], KINDS.index(BOTH))
    kind = np.where(matches.is_wrong, kind, RIGHT)
    target = np.full(len(detections), -1)
    for name, gt in ((LOCALISATION, own_gt), (CLASSIFICATION, other_gt)):
        target = np.where(kind == KINDS.index(name), gt, target)
    is_missed = (matches.det_of_gt < 0) & ~truth.ignored
    is_missed[target[target >= 0]] = False
    return Errors(kind, target, is_missed)


def cost_of_errors(
    detections: Boxes, truth: Boxes, matches: Matches, errors: Errors, num_classes: int
) -> dict[str, Cost]:
    """Return what each kind of error costs, each corrected alone (the paper's delta AP).

    Classes and boxes are corrected where that finds an object that is not found yet, by the best scored of the
    detections that would; other wrong detections are taken away; missed objects are not counted.

    Args:
        detections, truth, matches, errors: as for :func:`find_errors`, and what that returned.
        num_classes: ``C``.

    Returns:
        The costs of :data:`KINDS`, and of all false positives and all false negatives together.
    """
    num_gts = count_truth(truth, num_classes)
    given = _Outcome(detections.scores, detections.labels, matches.is_right, ~matches.is_ignored, num_gts)
    before = given.averages()
    costs = {}
    for kind, wrong in [*((kind, errors.is_of(kind)) for kind in KINDS[:-1]), (FALSE_POSITIVES, matches.is_wrong)]:
        corrected = replace(given, counts=given.counts & ~wrong)
        if kind in REPAIRABLE:
            corrected = _repaired(corrected, truth, matches, errors.target, wrong)
        costs[kind] = _cost(detections.labels[wrong], before, corrected.averages())
    for kind, wrong in ((MISSED, errors.is_missed), (FALSE_NEGATIVES, (matches.det_of_gt < 0) & ~truth.ignored)):
        left = num_gts - np.bincount(truth.labels[wrong], minlength=num_classes)
        costs[kind] = _cost(truth.labels[wrong], before, replace(given, num_gts=left).averages())
    return {kind: costs[kind] for kind in MEANING}


def _repaired(without: _Outcome, truth: Boxes, matches: Matches, target: np.ndarray, wrong: np.ndarray) -> _Outcome:
    """Let the best scored of the wrong detections find each object of ``target`` that nobody has found."""
    candidates = np.flatnonzero(wrong)
    candidates = candidates[matches.det_of_gt[target[candidates]] < 0]
    candidates = candidates[np.argsort(-without.scores[candidates], kind="stable")]
    objects, first = np.unique(target[candidates], return_index=True)
    labels, is_right, counts = without.labels.copy(), without.is_right.copy(), without.counts.copy()
    finders = candidates[first]
    labels[finders], is_right[finders], counts[finders] = truth.labels[objects], True, True
    return replace(without, labels=labels, is_right=is_right, counts=counts)


def _cost(labels: np.ndarray, before: np.ndarray, after: np.ndarray) -> Cost:
    return Cost(np.bincount(labels, minlength=len(before)), after - before, _mean(after) - _mean(before))


def _mean(averages: np.ndarray) -> float:
    defined = averages[~np.isnan(averages)]
    return float(defined.mean()) if len(defined) else float("nan")


def _best(pairs: Overlaps, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (n,) the largest IoU of each of ``count`` detections, 0 without one, and whose it is, -1 for none."""
    order = np.lexsort((-pairs.gt, pairs.iou, pairs.det))
    last = np.searchsorted(pairs.det[order], np.arange(count), side="right") - 1
    has_pair = np.zeros(count, dtype=bool)
    has_pair[pairs.det] = True
    iou, gt = np.zeros(count), np.full(count, -1)
    iou[has_pair], gt[has_pair] = (one[order][last[has_pair]] for one in (pairs.iou, pairs.gt))
    return iou, gt
