"""The priors that take part in a rule that goes by predictions, and what is predicted there, read once for a batch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from densehead.compat import is_compiling
from densehead.models.assigners.base import BaseAssigner
from densehead.models.assigners.candidates import chunks
from densehead.ops import aligned_iou
from densehead.structures import Assignment, Predictions, Priors, Targets, box_tensor

FARTHEST = 1e8  # pixels; a box that reaches further counts as not finite


@dataclass(frozen=True)
class Pool:
    """The priors of each image that take part, ``U`` of them, and the boxes predicted there.

    Attributes:
        prior_index: (B, U), ascending; where padded the number of priors. If ``U`` is that number, it is all of them.
        is_real: (B, U) bool, False where padded and where no finite box is predicted.
        boxes: (B, U, 4) predicted, xyxy in pixels; zeros, which overlap nothing, where not ``is_real``.
        points, strides: (B, U, 2) and (B, U), of the priors.
        priors: all of them.
    """

    prior_index: Tensor
    is_real: Tensor
    boxes: Tensor
    points: Tensor
    strides: Tensor
    priors: Priors

    @classmethod
    def of(cls, priors: Priors, predictions: Predictions, is_wanted: Tensor) -> Pool:
        """Read the boxes of the priors in ``is_wanted`` (B, P).

        On the CPU the others are left out. Elsewhere the host would have to wait for their number, and a compiler does
        not know it, so all stay, masked.
        """
        can_look = is_wanted.device.type == "cpu" and not is_compiling()
        index, is_real = _compact(is_wanted) if can_look else _all(is_wanted)
        image = torch.arange(len(index), device=index.device)[:, None].expand_as(index)
        some = index.clamp(max=len(priors) - 1)
        boxes = predictions.boxes_at(image, some).float()
        is_real = is_real & (boxes.abs().amax(-1) < FARTHEST)  # False for NaN too
        boxes = boxes.where(is_real[..., None], 0)
        return cls(index, is_real, boxes, priors.points[some], priors.strides[some], priors)

    def take(self, values: Tensor) -> Tensor:
        """Return (B, c, U): of ``values`` (B, c, P) those of the pool."""
        if self.prior_index.shape[1] == values.shape[-1]:
            return values
        index = self.prior_index.clamp(max=values.shape[-1] - 1)
        return values.gather(2, index[:, None].expand(-1, values.shape[1], -1))

    def assignment(self, truth: Tensor, targets: Targets) -> Assignment:
        """Return the assignment in which the pool's priors answer for ``truth`` (B, U), and no other prior for any."""
        batch = torch.arange(len(truth), device=truth.device)[:, None]
        iou = aligned_iou(self.boxes, targets.boxes[batch, truth.clamp(min=0)]).where(truth >= 0, 0)
        shape = (len(truth), len(self.priors) + 1)  # the last place takes what is padded
        index = torch.full(shape, -1, device=truth.device).scatter_(1, self.prior_index, truth)
        overlaps = iou.new_zeros(shape).scatter_(1, self.prior_index, iou)
        return Assignment(index[:, :-1], overlaps[:, :-1]).ignoring(self.priors.valid_mask())


def _all(is_wanted: Tensor) -> tuple[Tensor, Tensor]:
    return torch.arange(is_wanted.shape[1], device=is_wanted.device).expand_as(is_wanted), is_wanted


def _compact(is_wanted: Tensor) -> tuple[Tensor, Tensor]:
    """Index (B, U) of what is wanted, ``U`` the most of an image (at least 1), and whether a place holds one."""
    batch, count = is_wanted.shape
    place = is_wanted.cumsum(1)
    most = max(1, int(place[:, -1].max()))
    if most == count:
        return _all(is_wanted)
    index = place.new_full((batch, most + 1), count)
    source = torch.arange(count, device=place.device).expand(batch, -1)
    index = index.scatter_(1, (place - 1).where(is_wanted, most), source)[:, :most]
    return index, torch.arange(most, device=place.device) < place[:, -1:]


def class_parts(table: Tensor) -> list[slice]:
    """Cut the classes of a table (B, C, U) so that a part holds a bounded number of values."""
    return chunks(len(table), *table.shape[1:])


def own_rows(table: Tensor, labels: Tensor) -> Tensor:
    """Return a new (B, g, U): of a table (B, C, U) the rows of the classes ``labels`` (B, g)."""
    return table[torch.arange(len(table), device=table.device)[:, None], labels]


def check_predictions(assigner: BaseAssigner, predictions: Predictions | None) -> None:
    """Refuse a call without predictions.

    Raises:
        ValueError: no predictions, or none with class scores.
    """
    if predictions is None or "cls_logits" not in predictions:
        raise ValueError(
            f"{type(assigner).__name__} decides by predicted boxes and class scores, but got "
            f"{'no predictions' if predictions is None else f'predictions of {sorted(predictions)} only'}: call it "
            "with (priors, targets, predictions), or choose an assigner in train_cfg that goes by the priors alone"
        )


def flat_predictions(assigner: BaseAssigner, instances: InstanceData, class_form: str) -> Predictions:
    """Wrap one image's ``bboxes`` (P, 4) and ``scores`` (P, C), which are ``'scores'`` or ``'logits'``.

    Raises:
        ValueError: either is missing, or of another number than the priors.
    """
    count = len(instances.priors)
    shapes = {name: tuple(instances[name].shape) if name in instances else None for name in ("bboxes", "scores")}
    if shapes["bboxes"] != (count, 4) or shapes["scores"] is None or shapes["scores"][:-1] != (count,):
        raise ValueError(
            f"{type(assigner).__name__}.assign needs pred_instances with bboxes of shape ({count}, 4) and scores of "
            f"shape ({count}, number of classes), one row a prior, but got the shapes {shapes}"
        )
    return Predictions.of_flat(box_tensor(instances.bboxes)[None], **{class_form: instances.scores[None]})
