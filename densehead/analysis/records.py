"""``AssignmentRecord``: what a loss was computed on, of one image, on the host; what is drawn and counted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from densehead.models.heads import DenseHead


@dataclass(frozen=True)
class AssignmentRecord:
    """Which points of an image answered for which object.

    Coordinates are pixels of the input image, as the network saw it.

    Attributes:
        boxes: (G, 4) ground truth, xyxy.
        labels: (G,) its classes.
        points: (P, 2) centres of all priors, x and y.
        level_index: (P,) pyramid level of each.
        strides: (L,) stride of each level.
        prior_index: (N,) the positives, ascending.
        gt_index: (N,) the object that each answers for.
        weight: (N,) in [0, 1], how much the loss made of it; 1 where the rule weighs nothing.
        weight_name: what that is (``'centre-ness'``, ``'IoU'``, ``'positive weight'``).
        ignored_index: (M,) the priors that took no part in the loss though they count for the image.
    """

    boxes: np.ndarray
    labels: np.ndarray
    points: np.ndarray
    level_index: np.ndarray
    strides: np.ndarray
    prior_index: np.ndarray
    gt_index: np.ndarray
    weight: np.ndarray
    weight_name: str
    ignored_index: np.ndarray

    @property
    def num_levels(self) -> int:
        return len(self.strides)

    def counts(self) -> np.ndarray:
        """Return (G, L): positives of each object on each level."""
        counts = np.zeros((len(self.boxes), self.num_levels), dtype=np.int64)
        np.add.at(counts, (self.gt_index, self.level_index[self.prior_index]), 1)
        return counts

    def is_missed(self) -> np.ndarray:
        """Return (G,) bool: objects that no prior answers for."""
        return self.counts().sum(1) == 0


def read_records(head: DenseHead) -> list[AssignmentRecord]:
    """Return a record of each image of the batch that a head has computed its last loss on.

    Args:
        head: after ``loss`` or ``loss_by_feat``.

    Raises:
        ValueError: the head has computed no loss, or by a way of its own that keeps no assignment.
    """
    priors, targets, assignment = head.last_priors, head.last_targets, head.last_assignment
    if priors is None or targets is None or assignment is None:
        raise ValueError(
            f"{type(head).__name__} has kept no assignment: compute a loss first; a subclass that overrides "
            "loss_by_feat whole must set last_priors, last_targets and last_assignment itself"
        )
    positives = assignment.positives(targets)
    image, prior, truth = (_array(one) for one in (positives.image_index, positives.prior_index, positives.gt_index))
    weight = _array(head.positive_weights().float())
    is_ignored = assignment.is_ignored
    if priors.valid_mask() is not None:  # what lies in the padding was never there
        is_ignored = is_ignored & priors.valid_mask()
    ignored_image, ignored = (_array(one) for one in is_ignored.nonzero(as_tuple=True))
    points, level = _array(priors.points), _array(priors.level_index)
    strides = _array(priors.strides)[np.unique(level, return_index=True)[1]]
    records = []
    for number, count in enumerate(targets.counts):
        mine = image == number
        records.append(
            AssignmentRecord(
                boxes=_array(targets.boxes[number, :count]),
                labels=_array(targets.labels[number, :count]),
                points=points,
                level_index=level,
                strides=strides,
                prior_index=prior[mine],
                gt_index=truth[mine],
                weight=weight[mine],
                weight_name=head.quality_name,
                ignored_index=ignored[ignored_image == number],
            )
        )
    return records


def _array(tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()
