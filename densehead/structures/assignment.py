"""``Assignment``: which prior answers for which ground truth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from densehead.structures.lazy import lazy

NEGATIVE = -1
IGNORED = -2


@dataclass(frozen=True)
class Positives:
    """The positives of a batch, gathered once; by image, then by prior.

    Attributes:
        image_index, prior_index, gt_index: (N,) each.
        boxes: (N, 4) the ground truth that a positive answers for, xyxy in pixels.
        labels: (N,) its class.
    """

    image_index: Tensor
    prior_index: Tensor
    gt_index: Tensor
    boxes: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return self.image_index.shape[0]


@dataclass(frozen=True)
class Assignment:
    """What an assigner decided for every prior of every image.

    Attributes:
        gt_index: (B, P) index of the ground truth, or ``NEGATIVE``, or ``IGNORED``.
        overlaps: (B, P) the value the rule decided by (an IoU for the IoU rules), 0 where there is none;
            None where the rule has none.
        has_ignored: False where no prior can be ``IGNORED`` (known without looking).
    """

    gt_index: Tensor
    overlaps: Tensor | None = None
    has_ignored: bool = False

    @lazy
    def is_positive(self) -> Tensor:
        """(B, P) bool."""
        return self.gt_index >= 0

    @property
    def is_ignored(self) -> Tensor:
        """(B, P) bool."""
        return self.gt_index == IGNORED

    @lazy
    def num_pos(self) -> Tensor:
        """(B,) positives of each image."""
        return self.is_positive.sum(1)

    def num_missed(self, targets) -> Tensor:
        """Return (B,): how many ground truths of each image no prior answers for."""
        if not targets.max_count:
            return torch.zeros_like(self.num_pos)
        is_missed = torch.cat([targets.is_valid, torch.zeros_like(targets.is_valid[:, :1])], 1)
        index = self.gt_index.where(self.is_positive, targets.max_count)  # the last column takes what is no positive
        return is_missed.scatter(1, index, False).sum(1)

    def positives(self, targets) -> Positives:
        """Gather the positives and their truth. On CUDA this waits for the assignment to be finished."""
        image_index, prior_index = torch.nonzero(self.is_positive, as_tuple=True)
        gt_index = self.gt_index[image_index, prior_index]
        return Positives(
            image_index,
            prior_index,
            gt_index,
            targets.boxes[image_index, gt_index],
            targets.labels[image_index, gt_index],
        )

    def ignoring(self, valid_mask: Tensor | None) -> Assignment:
        """Return the assignment with the priors outside ``valid_mask`` (B, P) ignored."""
        if valid_mask is None:
            return self
        gt_index = self.gt_index.masked_fill(~valid_mask, IGNORED)
        return Assignment(gt_index, self.overlaps, has_ignored=True)
