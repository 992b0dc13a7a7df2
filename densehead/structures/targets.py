"""``Targets``: the ground truth of a batch, padded once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from densehead.compat import is_compiling
from densehead.structures.boxes import box_tensor


@dataclass(frozen=True)
class Targets:
    """The truth of ``B`` images, padded to the largest number of objects. Nothing else sees ragged truth.

    Attributes:
        boxes: (B, G, 4) xyxy, pixels of the input image; zeros where padded.
        labels: (B, G) class indices; zeros where padded.
        is_valid: (B, G) bool, False where padded.
        ignore_boxes: (B, I, 4) regions in which nothing is a negative (crowds); zeros where padded.
        ignore_is_valid: (B, I) bool.
        counts: objects of each image, on the host.
    """

    boxes: Tensor
    labels: Tensor
    is_valid: Tensor
    ignore_boxes: Tensor
    ignore_is_valid: Tensor
    counts: tuple[int, ...]

    @property
    def num_images(self) -> int:
        return self.boxes.shape[0]

    @property
    def max_count(self) -> int:
        """``G``, the largest number of objects of an image."""
        return self.boxes.shape[1]

    @classmethod
    def from_instances(
        cls,
        instances: Sequence[InstanceData],
        ignored: Sequence[InstanceData | None] | None = None,
        *,
        num_classes: int | None = None,
        device: torch.device | None = None,
    ) -> Targets:
        """Pad per-image truth.

        Args:
            instances: of each image ``bboxes`` (n, 4) xyxy in pixels (a tensor or anything with ``.tensor``) and
                ``labels`` (n,).
            ignored: of each image ``bboxes`` of the regions to ignore, or None.
            num_classes: labels must be below it; checked where the labels are on the host (copying them from a GPU
                to look would stall it: the data preprocessor looks before they leave).
            device: where the result lies; that of the boxes if None.

        Raises:
            ValueError: boxes and labels that do not fit each other, a box that is not finite, or a label outside
                ``[0, num_classes)``.
        """
        boxes = [box_tensor(one.bboxes) for one in instances]
        labels = [one.labels for one in instances]
        check_instances(boxes, labels, num_classes)
        device = device or (boxes[0].device if boxes else None)
        ignore = [box_tensor(one.bboxes) if one is not None and "bboxes" in one else None for one in ignored or ()]
        ignore = [boxes[0].new_zeros(0, 4) if one is None else one for one in ignore] or [
            one.new_zeros(0, 4) for one in boxes
        ]
        padded_boxes, is_valid = _pad(boxes, device)
        padded_ignore, ignore_is_valid = _pad(ignore, device)
        padded_labels = pad_sequence(labels, batch_first=True).to(device=device, dtype=torch.long)
        counts = tuple(len(one) for one in boxes)
        return cls(padded_boxes, padded_labels, is_valid, padded_ignore, ignore_is_valid, counts)


def check_instances(boxes: Sequence[Tensor], labels: Sequence[Tensor], num_classes: int | None) -> None:
    """Raise a ValueError that names the image whose truth cannot be trained on.

    Raises:
        ValueError: shapes that do not fit, or (on the host only) a box that is not finite or a label outside
            ``[0, num_classes)``.
    """
    for image, (box, label) in enumerate(zip(boxes, labels, strict=True)):
        if box.ndim != 2 or box.shape[-1] != 4 or label.shape != box.shape[:1]:
            raise ValueError(
                f"ground truth of image {image} in the batch: bboxes must have shape (n, 4) and labels (n,), "
                f"but got {tuple(box.shape)} and {tuple(label.shape)}"
            )
        check_boxes(box, f"ground truth of image {image} in the batch")
        if num_classes is not None:
            check_labels(label, num_classes, f"ground truth of image {image} in the batch")


def check_boxes(boxes: Tensor, owner: str) -> None:
    """Raise a ValueError that names a box which is not finite: nobody could be trained to predict it.

    Args:
        boxes: (n, 4); on a GPU they are not looked at, it would have to be waited for.
        owner: whose boxes they are, for the message.
    """
    if boxes.device.type != "cpu" or is_compiling() or boxes.isfinite().all():
        return
    index = int((~boxes.isfinite()).any(1).nonzero()[0])
    box = ", ".join(f"{edge:g}" for edge in boxes[index].tolist())
    raise ValueError(
        f"{owner} has the box ({box}) as its object {index}: its sides must be finite. Correct the annotation, or the "
        "transform that made it"
    )


def check_labels(labels: Tensor, num_classes: int, owner: str) -> None:
    """Raise a ValueError that names a label that the head has no class for.

    Args:
        labels: (n,); on a GPU they are not looked at, it would have to be waited for.
        num_classes: of the head.
        owner: whose labels they are, for the message.
    """
    if labels.device.type != "cpu" or not labels.numel() or is_compiling():
        return
    low, high = (int(limit) for limit in labels.aminmax())
    if low < 0 or high >= num_classes:
        raise ValueError(
            f"{owner} has the label {low if low < 0 else high}, but bbox_head.num_classes={num_classes} allows 0 to "
            f"{num_classes - 1}: set num_classes to the number of classes of the data set, or correct the annotation"
        )


def _pad(boxes: list[Tensor], device: torch.device | None) -> tuple[Tensor, Tensor]:
    padded = pad_sequence(boxes, batch_first=True).to(device=device, dtype=torch.float32)
    counts = torch.tensor([len(one) for one in boxes])
    is_valid = torch.arange(padded.shape[1]) < counts[:, None]
    return padded, is_valid.to(padded.device, non_blocking=True)
