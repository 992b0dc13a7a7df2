"""Which ground truths a loss is not finite for: found by computing the losses again with some of them alone."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.structures import InstanceData

from densehead.models.heads import DenseHead
from densehead.models.heads.finite import LossReport
from densehead.ops import on_this_rank
from densehead.structures import NEGATIVE, Assignment, Targets

MOST_FOUND = 10
MOST_TRIALS = 200
AUXILIARY = "aux_"

Object = tuple[int, int]  # number of the image, number of the object in it


def find_objects(head: DenseHead, report: LossReport, images: Sequence[int]) -> dict[Object, set[str]]:
    """Return the objects that make losses infinite or NaN though the background alone does not, and which losses.

    The head's last assignment stays as it was: an object's positives are those that it had, the others become
    negatives. Objects are halved until single ones are left. Some may be missing where there are many.

    Args:
        head: which has computed the losses last.
        report: of the losses.
        images: in which to look.
    """
    with torch.no_grad(), on_this_rank():
        search = _Search(head, report)
        wanted = set(report.broken()) - search.broken([])
        everything = [(image, index) for image in images for index in range(head.last_targets.counts[image])]
        if wanted:
            search.halve(everything, wanted)
    return search.found


class _Search:
    def __init__(self, head: DenseHead, report: LossReport) -> None:
        self.head = head
        self.priors, self.targets, self.assignment = head.last_priors, head.last_targets, head.last_assignment
        self.maps: dict[str, dict] = {}  # of the head and of an auxiliary one, by the prefix of its losses
        for name, levels in report.maps.items():
            prefix = AUXILIARY if name.startswith(AUXILIARY) else ""
            self.maps.setdefault(prefix, {})[name.removeprefix(prefix)] = levels
        self.found: dict[Object, set[str]] = {}
        self.trials = 0

    def broken(self, kept: list[Object]) -> set[str]:
        """Return the losses that are not finite with these objects alone."""
        self.trials += 1
        targets, assignment = only(self.targets, self.assignment, kept)
        losses = {}
        for prefix, maps in self.maps.items():
            predictions = self.head.predictions_of(maps, self.priors)
            found = self.head.losses(predictions, self.priors, targets, assignment)
            losses |= {f"{prefix}{name}": value for name, value in found.items()}
        return {name for name, value in losses.items() if not value.isfinite()}

    def halve(self, kept: list[Object], wanted: set[str]) -> None:
        """Find objects among ``kept``, by halves."""
        if not kept or len(self.found) >= MOST_FOUND or self.trials >= MOST_TRIALS:
            return
        broken = self.broken(kept) & wanted
        if not broken:
            return
        if len(kept) == 1:
            self.found[kept[0]] = broken
            return
        middle = len(kept) // 2
        self.halve(kept[:middle], broken)
        self.halve(kept[middle:], broken)


def only(targets: Targets, assignment: Assignment, kept: list[Object]) -> tuple[Targets, Assignment]:
    """Return targets with some objects alone, and the assignment in which priors of the others are negatives."""
    chosen = [[index for image, index in kept if image == number] for number in range(targets.num_images)]
    truth = [
        InstanceData(bboxes=targets.boxes[image, indices], labels=targets.labels[image, indices])
        for image, indices in enumerate(chosen)
    ]
    regions = zip(targets.ignore_boxes, targets.ignore_is_valid, strict=True)
    ignored = [InstanceData(bboxes=boxes[is_valid]) for boxes, is_valid in regions]
    renumbered = torch.full((targets.num_images, targets.max_count + 1), NEGATIVE, device=assignment.gt_index.device)
    for image, indices in enumerate(chosen):
        renumbered[image, indices] = torch.arange(len(indices), device=renumbered.device)
    looked_up = renumbered.gather(1, assignment.gt_index.clamp(min=0))
    gt_index = looked_up.where(assignment.is_positive, assignment.gt_index)
    fewer = Assignment(gt_index, assignment.overlaps, assignment.has_ignored)
    return Targets.from_instances(truth, ignored, device=targets.boxes.device), fewer
