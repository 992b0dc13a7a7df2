"""Cross entropy, of sigmoid scores and of softmax scores."""

from __future__ import annotations

import warnings

import torch
from torch import Tensor
from torch.nn import functional as F

from densehead.models.losses.base import in_float32, weighted_reduction
from densehead.models.losses.dense import ClassificationLoss
from densehead.registry import MODELS


@MODELS.register_module()
class CrossEntropyLoss(ClassificationLoss):
    """Cross entropy.

    Args:
        use_sigmoid: binary cross entropy of every channel, in place of a softmax over them.
        use_mask: must be False; there are no mask losses here.
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.
        class_weight: weight of each class (softmax), or of the positives of each (sigmoid).
        ignore_index: label without loss; -100 if None.
        loss_weight: factor of the result.
        avg_non_ignore: let a mean without ``avg_factor`` count only what is not ignored.

    Raises:
        ValueError: ``use_mask=True``.
    """

    def __init__(
        self,
        use_sigmoid: bool = False,
        use_mask: bool = False,
        reduction: str = "mean",
        class_weight: list[float] | None = None,
        ignore_index: int | None = None,
        loss_weight: float = 1.0,
        avg_non_ignore: bool = False,
    ) -> None:
        super().__init__(reduction, loss_weight)
        if use_mask:
            raise ValueError("CrossEntropyLoss has no use_mask=True here: mask losses belong to instance segmentation")
        if ignore_index is not None and not avg_non_ignore and reduction == "mean":
            warnings.warn(
                f"CrossEntropyLoss(ignore_index={ignore_index}) divides its mean by the ignored labels too; "
                "avg_non_ignore=True leaves them out, as PyTorch's cross_entropy does",
                stacklevel=2,
            )
        self.use_sigmoid = use_sigmoid
        self.use_mask = use_mask
        self.class_weight = class_weight
        self.ignore_index = ignore_index
        self.avg_non_ignore = avg_non_ignore

    def forward(
        self,
        cls_score: Tensor,
        label: Tensor,
        weight: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
        reduction_override: str | None = None,
        ignore_index: int | None = None,
    ) -> Tensor:
        """Return the loss, in float32 (float64 for float64).

        Args:
            cls_score: (N, C) logits; or, for sigmoid scores, of any shape.
            label: (N,) class indices, of which those outside [0, C) are background to a sigmoid; or, for sigmoid
                scores, of the shape of ``cls_score``: targets in [0, 1].
            weight: (N,) of each row, or of the shape of the loss.
            avg_factor: what ``'mean'`` divides by.
            reduction_override: in place of ``reduction``, for this call.
            ignore_index: in place of the module's, for this call.
        """
        reduction = self._reduction(reduction_override)
        ignore_index = self.ignore_index if ignore_index is None else ignore_index
        ignore_index = -100 if ignore_index is None else ignore_index
        with torch.autocast(cls_score.device.type, enabled=False):
            cls_score, label = in_float32(cls_score), in_float32(label)
            class_weight = None if self.class_weight is None else cls_score.new_tensor(self.class_weight)
            per_element = _of_sigmoid if self.use_sigmoid else _of_softmax
            loss, counts = per_element(cls_score, label, class_weight, ignore_index)
            if avg_factor is None and self.avg_non_ignore and reduction == "mean":
                avg_factor = counts.sum()
            return self.loss_weight * weighted_reduction(loss, weight, reduction, avg_factor)


def _of_softmax(logits: Tensor, label: Tensor, class_weight: Tensor | None, ignore: int) -> tuple[Tensor, Tensor]:
    """Return (N,) losses, 0 where ignored, and which of them count."""
    loss = F.cross_entropy(logits, label, weight=class_weight, reduction="none", ignore_index=ignore)
    return loss, label != ignore


def _of_sigmoid(logits: Tensor, label: Tensor, class_weight: Tensor | None, ignore: int) -> tuple[Tensor, Tensor]:
    """Return losses of the shape of the logits, 0 where ignored, and which of them count."""
    counts = (label >= 0) & (label != ignore)
    if label.ndim != logits.ndim:
        label = label[:, None] == torch.arange(logits.shape[-1], device=label.device)
        counts = counts[:, None].expand(logits.shape)
    target = label.to(logits.dtype)
    loss = F.binary_cross_entropy_with_logits(logits, target, pos_weight=class_weight, reduction="none")
    return loss * counts, counts
