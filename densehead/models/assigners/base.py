"""What all assigners share: the batched call, and mmdetection's call for one image."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from densehead.structures import IGNORED, Assignment, Predictions, Priors, Targets, box_tensor


class AssignResult:
    """The assignment of one image in mmdetection's form.

    Attributes:
        num_gts: number of ground truths.
        gt_inds: (P,) 0 for background, -1 for ignored, ``k + 1`` for ground truth ``k``.
        max_overlaps: (P,) the value the rule decided by.
        labels: (P,) class of the ground truth, -1 where there is none.
    """

    def __init__(self, num_gts: int, gt_inds: Tensor, max_overlaps: Tensor, labels: Tensor) -> None:
        self.num_gts = num_gts
        self.gt_inds = gt_inds
        self.max_overlaps = max_overlaps
        self.labels = labels
        self._extra_properties: dict[str, Any] = {}

    @property
    def num_preds(self) -> int:
        """Number of priors."""
        return len(self.gt_inds)

    @property
    def info(self) -> dict[str, Any]:
        """All that it holds, by name."""
        names = ("num_gts", "num_preds", "gt_inds", "max_overlaps", "labels")
        return {name: getattr(self, name) for name in names} | self._extra_properties

    def set_extra_property(self, key: str, value: Any) -> None:
        """Keep something else under a name that is not taken."""
        if key in self.info:
            raise ValueError(f"an AssignResult has a {key!r} already; its names are {sorted(self.info)}")
        self._extra_properties[key] = value

    def get_extra_property(self, key: str) -> Any:
        """Return what was set under a name, or None."""
        return self._extra_properties.get(key)

    def add_gt_(self, gt_labels: Tensor) -> None:
        """Put the ground truths themselves before the priors, each assigned to itself, as samplers of R-CNN ask for.

        Args:
            gt_labels: (G,) their classes.
        """
        own = torch.arange(1, len(gt_labels) + 1, device=self.gt_inds.device)
        self.gt_inds = torch.cat([own, self.gt_inds])
        self.max_overlaps = torch.cat([self.max_overlaps.new_ones(len(gt_labels)), self.max_overlaps])
        self.labels = torch.cat([gt_labels, self.labels])


class BaseAssigner:
    """A rule that says for every prior which ground truth it answers for.

    Calling an assigner with :class:`Priors`, :class:`Targets` and :class:`Predictions` of a batch gives an
    :class:`Assignment`; :meth:`assign` answers for one image as mmdetection's assigners do. Subclasses implement
    ``__call__`` on grids and on priors that lie on none (``priors.grids`` is empty).
    """

    needs_predictions = False  # whether the rule looks at what the head put out
    needs_extent = False  # whether it goes by the boxes of priors; points are given squares then

    def __call__(self, priors: Priors, targets: Targets, predictions: Predictions | None = None) -> Assignment:
        """Assign every prior of every image.

        Args:
            priors: the priors of the batch.
            targets: its truth.
            predictions: what the head put out; only rules that look at predictions need it.
        """
        raise NotImplementedError

    def assign(
        self,
        pred_instances: InstanceData,
        gt_instances: InstanceData,
        gt_instances_ignore: InstanceData | None = None,
        num_level_priors: list[int] | None = None,
        **kwargs,
    ) -> AssignResult:
        """Assign the priors of one image, which may be any subset of a grid's.

        Args:
            pred_instances: ``priors`` (P, 4) xyxy in pixels; these and all boxes may be a box class with ``.tensor``.
            gt_instances: ``bboxes`` (G, 4) xyxy in pixels and ``labels`` (G,).
            gt_instances_ignore: ``bboxes`` of regions to ignore.
            num_level_priors: number of priors of each level; one level if None.
            kwargs: what other assigners take.
        """
        priors = Priors.from_boxes(box_tensor(pred_instances.priors)[:, :4], num_level_priors)
        return self._assign_one(priors, gt_instances, gt_instances_ignore)

    @torch.no_grad()
    def _assign_one(
        self,
        priors: Priors,
        truth: InstanceData,
        ignored: InstanceData | None,
        predictions: Predictions | None = None,
    ) -> AssignResult:
        num_classes = None if predictions is None else predictions.num_classes
        targets = Targets.from_instances([truth], [ignored], num_classes=num_classes, device=priors.points.device)
        assignment = self(priors, targets, predictions)
        index = assignment.gt_index[0]
        is_positive = index >= 0
        gt_inds = (index + 1).where(index != IGNORED, -1)
        labels = index.new_full(index.shape, -1)
        overlaps = assignment.overlaps[0]
        if targets.max_count:
            labels = targets.labels[0][index.clamp(min=0)].where(is_positive, -1)
            overlaps = self._public_overlaps(overlaps, is_positive)
        return AssignResult(targets.max_count, gt_inds, overlaps, labels)

    def _public_overlaps(self, overlaps: Tensor, is_positive: Tensor) -> Tensor:
        return overlaps


def no_truth(priors: Priors, targets: Targets) -> Assignment:
    """Return the assignment of a batch in which no image has a ground truth."""
    shape, device = (targets.num_images, len(priors)), priors.points.device
    negative = torch.full(shape, -1, device=device)
    return Assignment(negative, torch.zeros(shape, device=device)).ignoring(priors.valid_mask())
