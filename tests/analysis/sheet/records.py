"""Records of losses that have been computed, and by hand."""

import numpy as np

from densehead.analysis import AssignmentRecord, Scene, read_records
from tests.models.heads.heads import SHAPE, build, config, features, samples

IGNORING = "ATSSHead-ignoring"  # whose rule leaves anchors between two thresholds out


def computed(name, count=4, seed=0):
    """Return a head after its loss on one image of ``count`` objects, and the record of it."""
    if name == IGNORING:
        rule = dict(type="MaxIoUAssigner", pos_iou_thr=0.3, neg_iou_thr=0.05)
        head = build("ATSSHead", train_cfg={**config("ATSSHead")["train_cfg"], "assigner": rule})
    else:
        head = build(name)
    head.loss(features(1), samples([count], seed))
    return head, read_records(head)[0]


def by_hand(boxes, positives, strides=(8, 16), shape=SHAPE, **changes):
    """Return a record with ``positives``, tuples of a prior, its object and its weight."""
    grids = [np.mgrid[0 : shape[0] : stride, 0 : shape[1] : stride].reshape(2, -1)[::-1].T for stride in strides]
    points = np.concatenate(grids).astype(np.float32)
    prior, truth, weight = np.array(positives, dtype=float).reshape(-1, 3).T
    fields = dict(
        boxes=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.arange(len(boxes)) % 3,
        points=points,
        level_index=np.repeat(np.arange(len(strides)), [len(one) for one in grids]),
        strides=np.array(strides, np.float32),
        prior_index=prior.astype(int),
        gt_index=truth.astype(int),
        weight=weight.astype(np.float32),
        weight_name="IoU",
        ignored_index=np.zeros(0, int),
    )
    return AssignmentRecord(**fields | changes)


def scene(records, image=None, names=("first", "second", "third")):
    image = np.full((*SHAPE, 3), 200, np.uint8) if image is None else image
    return Scene(image, "street.jpg", tuple(names), records)
