"""Which detection finds which object, by COCO's rule, of all images and classes at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from densehead.analysis.detections.overlaps import Overlaps
from densehead.evaluation.boxes import Boxes


@dataclass(frozen=True)
class Matches:
    """What came of detections and objects.

    Attributes:
        gt_of_det: (n,) the object that each detection finds, -1 for none.
        det_of_gt: (m,) the detection that finds each object, -1 for none.
        is_ignored: (n,) bool, detections that are neither right nor wrong: they lie on an ignored object.
    """

    gt_of_det: np.ndarray
    det_of_gt: np.ndarray
    is_ignored: np.ndarray

    @property
    def is_right(self) -> np.ndarray:
        """(n,) bool, detections that find an object."""
        return self.gt_of_det >= 0

    @property
    def is_wrong(self) -> np.ndarray:
        """(n,) bool, false positives."""
        return ~(self.is_right | self.is_ignored)


def match(detections: Boxes, truth: Boxes, overlaps: Overlaps, *, iou_thr: float, any_class: bool = False) -> Matches:
    """Let the detections choose their objects, the best score first.

    Each takes the object that it overlaps most among those that are left and that it overlaps by ``iou_thr``; an
    ignored object, which is never used up, only where there is no other (the rule of COCO's evaluation). The choices of
    one after the other are those of all at once in which an object prefers the better score, and who is refused turns
    to the next (Gale and Shapley, 1962); so there are few rounds, each of whole arrays.

    Args:
        detections: with scores; of equal ones the first chooses first.
        truth: with what is ignored.
        overlaps: their pairs, see :func:`~densehead.analysis.detections.overlaps.find_overlaps`.
        iou_thr: smallest IoU of a pair; not below that of ``overlaps``.
        any_class: whether a detection may find an object of another class.
    """
    pairs = _by_preference(overlaps.take((overlaps.iou >= iou_thr) & (any_class | overlaps.is_same_class)))
    by_score = np.argsort(-detections.scores, kind="stable")
    rank = np.empty(len(detections), dtype=np.int64)
    rank[by_score] = np.arange(len(detections))
    bounds = np.searchsorted(pairs.det, np.arange(len(detections) + 1))
    choice, last = bounds[:-1].copy(), bounds[1:]
    nobody = len(detections)
    holder = np.full(len(truth), nobody)  # rank of the detection that has each object
    gt_of_det = np.full(len(detections), -1)
    is_ignored = np.zeros(len(detections), dtype=bool)
    free = np.flatnonzero(choice < last)
    while len(free):
        settles = pairs.is_ignored[choice[free]]
        is_ignored[free[settles]] = True
        free = free[~settles]
        wanted = pairs.gt[choice[free]]
        touched = np.unique(wanted)
        before = holder[touched]
        np.minimum.at(holder, wanted, rank[free])
        driven_out = by_score[before[(before < nobody) & (holder[touched] < before)]]
        gets = holder[wanted] == rank[free]
        gt_of_det[free[gets]] = wanted[gets]
        gt_of_det[driven_out] = -1
        free = np.concatenate([free[~gets], driven_out])
        choice[free] += 1
        free = free[choice[free] < last[free]]
    det_of_gt = np.append(by_score, -1)[holder]
    return Matches(gt_of_det, det_of_gt, is_ignored)


def _by_preference(pairs: Overlaps) -> Overlaps:
    """Sort the pairs of each detection: objects that count first, the larger overlap first, of equal ones the last."""
    return pairs.take(np.lexsort((-pairs.gt, -pairs.iou, pairs.is_ignored, pairs.det)))
