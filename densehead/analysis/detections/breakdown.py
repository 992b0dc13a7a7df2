"""COCO's curves of precision that forgive one kind of error after the other.

Hoiem, Chodpathumwan and Dai, "Diagnosing Error in Object Detectors", ECCV 2012, in the form of
https://cocodataset.org/#detection-eval, section 4.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from densehead.analysis.detections.curves import class_curves, count_truth
from densehead.analysis.detections.matching import Matches, match
from densehead.analysis.detections.overlaps import Overlaps
from densehead.evaluation.boxes import Boxes

LOOSE_IOU = 0.1  # at which a box that is out of place is forgiven
MEANING = {
    "C75": "IoU 0.75",
    "C50": "IoU 0.5",
    "Loc": "IoU 0.1",  # boxes out of place are forgiven; from here on all that is above, too
    "Sim": "similar class",  # of the same supercategory
    "Oth": "any class",
    "BG": "nothing there",
    "FN": "not found",
}


def forgiving_curves(
    detections: Boxes,
    truth: Boxes,
    overlaps: Overlaps,
    *,
    num_classes: int,
    supercategories: Sequence[int] | None = None,
) -> dict[str, np.ndarray]:
    """Return the mean precision of the classes at 101 recalls, by the names of :data:`MEANING`, from strict to lenient.

    Args:
        detections: with scores.
        truth: with what is ignored.
        overlaps: their pairs, down to an IoU of :data:`LOOSE_IOU`.
        num_classes: number of classes.
        supercategories: (C,) which classes are similar; there is no curve ``Sim`` if None.
    """
    num_gts = count_truth(truth, num_classes)

    def curves_of(matches: Matches, forgiven: np.ndarray | bool = False) -> np.ndarray:
        """(classes with an object, 101), what is forgiven left out."""
        counts = matches.is_right | (matches.is_wrong & np.logical_not(forgiven))
        kept = (one[counts] for one in (detections.scores, detections.labels, matches.is_right))
        return np.stack([one.precision_at_recalls for one in class_curves(*kept, num_gts) if one.num_gts])

    loose = match(detections, truth, overlaps, iou_thr=LOOSE_IOU)
    others = overlaps.take(~overlaps.is_same_class & (overlaps.iou >= LOOSE_IOU))
    strict = {"C75": 0.75, "C50": 0.5}
    curves = {name: curves_of(match(detections, truth, overlaps, iou_thr=iou_thr)) for name, iou_thr in strict.items()}
    curves["Loc"] = curves_of(loose)
    if supercategories is not None:
        groups = np.asarray(supercategories)
        is_similar = groups[detections.labels[others.det]] == groups[truth.labels[others.gt]]
        curves["Sim"] = curves_of(loose, _any(others.det[is_similar], len(detections)))
    curves["Oth"] = curves_of(loose, _any(others.det, len(detections)))
    curves["BG"] = (curves["Oth"] > 0).astype(float)
    curves["FN"] = np.ones_like(curves["Oth"])
    return {name: values.mean(0) for name, values in curves.items()}


def _any(index: np.ndarray, count: int) -> np.ndarray:
    """(count,) bool, which are named in ``index``."""
    named = np.zeros(count, dtype=bool)
    named[index] = True
    return named
