"""Pascal VOC's average precision: all images at once, class by class only where curves are summed.

Everingham et al., "The Pascal Visual Object Classes (VOC) Challenge", IJCV 2010, sections 4.2 and 4.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from densehead.evaluation.boxes import Boxes, pairs_of_groups

EVAL_MODES = ("11points", "area")


@dataclass(frozen=True)
class ClassResult:
    """What was counted for one class: truth that is not ignored, detections, the largest recall, the precision."""

    num_gts: int
    num_dets: int
    recall: float
    average_precision: float


def evaluate_classes(
    detections: Boxes, truth: Boxes, *, num_classes: int, iou_thr: float, eval_mode: str
) -> list[ClassResult]:
    """Return what was counted for each class.

    A detection belongs to the object of its image and class that it overlaps most. If they overlap by ``iou_thr`` it
    is right when it has the best score of all that belong there, wrong otherwise, and neither when the object is
    ignored; if they do not, it is wrong.

    Args:
        detections: boxes with scores.
        truth: boxes with what is ignored.
        num_classes: number of classes.
        iou_thr: smallest IoU of a right detection; widths and heights are ``x2 - x1 + 1``, VOC's way.
        eval_mode: ``'area'`` below the curve, or the mean at ``'11points'`` (0, 0.1, ..., 1) of recall.
    """
    overlap, owner = best_overlap(detections, truth)
    is_tp, is_fp = _judge(detections.scores, overlap >= iou_thr, owner, truth.ignored)
    order = np.lexsort((-detections.scores, detections.labels))
    bounds = np.searchsorted(detections.labels[order], np.arange(num_classes + 1))
    num_gts = np.bincount(truth.labels[~truth.ignored], minlength=num_classes)
    results = []
    for label in range(num_classes):
        members = order[bounds[label] : bounds[label + 1]]
        tp, fp = np.cumsum(is_tp[members]), np.cumsum(is_fp[members])
        recall = tp / max(num_gts[label], 1)
        precision = tp / np.maximum(tp + fp, 1)
        average = average_precision(recall, precision, eval_mode)
        results.append(ClassResult(int(num_gts[label]), len(members), float(recall.max(initial=0)), average))
    return results


def best_overlap(detections: Boxes, truth: Boxes) -> tuple[np.ndarray, np.ndarray]:
    """Return the largest IoU of each detection with truth of its image and class, and the index of that truth.

    Without such truth the IoU is 0 and the index undefined. Of equal overlaps the first counts.
    """
    num_labels = 1 + max(detections.labels.max(initial=0), truth.labels.max(initial=0))
    det_group = detections.images * num_labels + detections.labels
    gt_group = truth.images * num_labels + truth.labels
    det_index, gt_index = pairs_of_groups(det_group, gt_group)
    count = np.bincount(det_index, minlength=len(det_group))
    offset = np.cumsum(count) - count
    iou = _aligned_iou(detections.boxes[det_index], truth.boxes[gt_index])

    overlap = np.zeros(len(count), dtype=np.float32)
    owner = np.zeros(len(count), dtype=np.int64)
    has_gt = count > 0
    if has_gt.any():
        overlap[has_gt] = np.maximum.reduceat(iou, offset[has_gt])
        candidate = np.where(iou == overlap[det_index], gt_index, len(gt_group))
        owner[has_gt] = np.minimum.reduceat(candidate, offset[has_gt])
    return overlap, owner


def average_precision(recall: np.ndarray, precision: np.ndarray, eval_mode: str) -> float:
    """Return the average of the precision that is reached at or beyond each recall.

    Args:
        recall: (n,) after each detection, best score first.
        precision: (n,) likewise.
        eval_mode: ``'area'`` or ``'11points'``.
    """
    if eval_mode == "area":
        return float(np.sum(np.diff(recall, prepend=0.0) * _best_beyond(precision)))
    return float(precision_at(recall, precision, np.arange(0, 1.001, 0.1)).mean())


def precision_at(recall: np.ndarray, precision: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return (k,) the best precision that is reached at or beyond each recall of ``points`` (k,); 0 beyond the last.

    Args:
        recall: (n,) after each detection, best score first.
        precision: (n,) likewise.
        points: recalls to read the curve at.
    """
    return np.append(_best_beyond(precision), 0.0)[np.searchsorted(recall, points, side="left")]


def _best_beyond(precision: np.ndarray) -> np.ndarray:
    return np.maximum.accumulate(precision[::-1])[::-1]


def _judge(
    scores: np.ndarray, overlaps: np.ndarray, owner: np.ndarray, ignored: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return which detections are right and which are wrong (those on ignored truth are neither)."""
    counts = overlaps.copy()
    counts[overlaps] = ~ignored[owner[overlaps]]
    by_score = np.argsort(-scores, kind="stable")
    contenders = by_score[counts[by_score]]
    _, first = np.unique(owner[contenders], return_index=True)
    is_tp = np.zeros(len(scores), dtype=bool)
    is_tp[contenders[first]] = True
    return is_tp, ~overlaps | (counts & ~is_tp)


def _aligned_iou(boxes1: np.ndarray, boxes2: np.ndarray) -> np.ndarray:
    """IoU of each pair, where a box covers its last pixel too."""
    overlap = _area(np.maximum(boxes1[:, :2], boxes2[:, :2]), np.minimum(boxes1[:, 2:], boxes2[:, 2:]))
    area1, area2 = (_area(boxes[:, :2], boxes[:, 2:]) for boxes in (boxes1, boxes2))
    return overlap / np.maximum(area1 + area2 - overlap, np.float32(1e-6))


def _area(low: np.ndarray, high: np.ndarray) -> np.ndarray:
    return np.maximum(high - low + 1, 0).prod(1)
