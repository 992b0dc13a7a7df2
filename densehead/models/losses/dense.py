"""Classification losses of score maps as they lie: no transposition, and little memory besides the gradient.

A head's logits are ``(B, A, C, S)``: base prior ``a = p % A`` at place ``s = p // A`` is prior ``p``. All but a few of
them answer for background, so a loss is the sum over *all* of the loss of a background, which needs no order, and
a correction at the positives, which are gathered.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from densehead.models.losses.base import Loss
from densehead.ops import full_precision
from densehead.structures.level_tensor import LevelTensor, Share

# Elements that are worked on at a time: a few buffers of them fit a core's second-level cache; a GPU wants more.
CHUNK = {"cpu": 1 << 19, "cuda": 1 << 22}


# for messages
CLASS_LOSSES = "FocalLoss, QualityFocalLoss, VarifocalLoss or CrossEntropyLoss"
BOX_LOSSES = "IoULoss, GIoULoss, DIoULoss, CIoULoss, EIoULoss, SIoULoss or SmoothL1Loss"


@dataclass(frozen=True)
class MapTargets:
    """What the logits of a batch should say.

    Attributes:
        image: (N,) image of each positive.
        prior: (N,) its prior; an image's prior is positive once at most.
        label: (N,) its class.
        weight: (B, P) weight of each prior's row of logits; None where all weigh 1.
        quality: (N,) in [0, 1] how good the box of each positive is, for the losses that learn that
            (:func:`takes_quality`).
    """

    image: Tensor
    prior: Tensor
    label: Tensor
    weight: Tensor | None = None
    quality: Tensor | None = None

    @classmethod
    def of(
        cls,
        logits: LevelTensor,
        image,
        prior,
        label,
        weight: Tensor | None,
        pos_weight: float | None,
        quality: Tensor | None = None,
    ) -> MapTargets:
        """Take ``pos_weight``, which replaces the weight of the positives, into ``weight``."""
        weight = None if weight is None else full_precision(weight)
        if pos_weight is not None:
            shape = logits.pieces[0].shape[0], logits.num_priors
            weight = torch.ones(shape, device=image.device) if weight is None else weight.clone()
            weight[image, prior] = pos_weight
        return cls(image, prior, label, weight, quality)

    def weight_of_positives(self) -> Tensor | float:
        return 1.0 if self.weight is None else self.weight[self.image, self.prior]

    def weight_like(self, pieces: Sequence[Tensor]) -> list[Tensor | None]:
        """Return the weights as views of the shapes of the pieces (B, A, C, S) of the logits."""
        if self.weight is None:
            return [None] * len(pieces)
        base = pieces[0].shape[1]
        parts = self.weight.split([base * piece.shape[-1] for piece in pieces], 1)
        return [
            part.unflatten(1, (-1, base)).permute(0, 2, 1)[:, :, None].expand(piece.shape)
            for part, piece in zip(parts, pieces, strict=True)
        ]


def pick(pieces: Sequence[Tensor], shares: Sequence[Share], labels: Tensor) -> Tensor:
    """Return (N,) the logits of classes (N,) at priors that stand in ``shares`` of the pieces (B, A, C, S)."""
    if shares[0].which is None:
        return pieces[0][shares[0].image, shares[0].base, labels, shares[0].place]
    picked = pieces[0].new_empty(len(labels))
    for piece, share in zip(pieces, shares, strict=True):
        picked[share.which] = piece[share.image, share.base, share.of(labels), share.place]
    return picked


def as_levels(logits: Tensor | LevelTensor) -> LevelTensor:
    """Return the logits of levels; a tensor (B, A, C, S) is all levels in one."""
    return logits if isinstance(logits, LevelTensor) else LevelTensor.of_joined(logits)


class ClassificationLoss(Loss):
    """Base of the losses that classify priors; they also read score maps as they lie."""

    def forward_maps(
        self,
        logits: Tensor | LevelTensor,
        pos_image: Tensor,
        pos_prior: Tensor,
        pos_label: Tensor,
        *,
        pos_quality: Tensor | None = None,
        weight: Tensor | None = None,
        pos_weight: float | None = None,
        avg_factor: float | Tensor | None = None,
    ) -> Tensor:
        """Return what ``forward`` returns for the priors in order, with the background for all but the positives.

        Args:
            logits: C numbers a prior on all levels; or (B, A, C, S) in whatever memory order, see the head of this
                module.
            pos_image: (N,) image of each positive.
            pos_prior: (N,) its prior, ``place * A + base prior``.
            pos_label: (N,) its class.
            pos_quality: (N,) in [0, 1], what its score should be, for the losses that :func:`takes_quality` names.
            weight: (B, A * S) weight of each prior, 0 where it is ignored; None: 1 for all.
            pos_weight: weight of the positives, in place of theirs in ``weight``; None keeps that.
            avg_factor: what the sum is divided by.

        Returns:
            A scalar.
        """
        logits = as_levels(logits)
        targets = MapTargets.of(logits, pos_image, pos_prior, pos_label, weight, pos_weight, pos_quality)
        return flat_loss(self, logits, targets, avg_factor)


def classification_loss(
    loss_cls: nn.Module,
    logits: Tensor | LevelTensor,
    pos_image: Tensor,
    pos_prior: Tensor,
    pos_label: Tensor,
    *,
    pos_quality: Tensor | None = None,
    weight: Tensor | None = None,
    pos_weight: float | None = None,
    avg_factor: float | Tensor | None = None,
) -> Tensor:
    """Return the loss of score maps by any loss module; arguments as of :meth:`ClassificationLoss.forward_maps`.

    A module that cannot read maps (another framework's) gets them flattened, with mmdetection's arguments.
    """
    if isinstance(loss_cls, ClassificationLoss):
        options = {"weight": weight, "pos_weight": pos_weight, "avg_factor": avg_factor, "pos_quality": pos_quality}
        return loss_cls.forward_maps(logits, pos_image, pos_prior, pos_label, **options)
    logits = as_levels(logits)
    targets = MapTargets.of(logits, pos_image, pos_prior, pos_label, weight, pos_weight, pos_quality)
    return flat_loss(loss_cls, logits, targets, avg_factor)


def check_kind(module: nn.Module, key: str, *, is_of_classes: bool) -> None:
    """Refuse a loss that was not made for what it is asked to compare; another framework's are taken as they are.

    Args:
        module: the loss.
        key: of ``bbox_head``, for the message.
        is_of_classes: whether it gets class scores, or else boxes.

    Raises:
        ValueError: the loss does not fit.
    """
    if not isinstance(module, Loss):
        return
    is_right = isinstance(module, ClassificationLoss) if is_of_classes else module.compares_boxes
    if not is_right:
        kind, examples = ("class scores", CLASS_LOSSES) if is_of_classes else ("boxes", BOX_LOSSES)
        raise ValueError(
            f"bbox_head.{key} must be a loss of {kind}, such as {examples}, but got {type(module).__name__}"
        )


def takes_quality(loss_cls: nn.Module) -> bool:
    """Return whether the targets of a classification loss are qualities of boxes.

    The name of its class or of a parent decides, so that another framework's losses count too.
    """
    return _quality_target(loss_cls) is not None


def flat_target(loss_cls: nn.Module, labels: Tensor, qualities: Tensor | None, channels: int):
    """Return what a classification loss takes as its target for rows (N, C).

    Args:
        loss_cls: the loss module.
        labels: (N,) classes, C for background.
        qualities: (N,) in [0, 1], needed where :func:`takes_quality`.
        channels: C.

    Raises:
        ValueError: a loss of qualities without any.
    """
    target_of = _quality_target(loss_cls)
    if target_of is None:
        return labels
    if qualities is None:
        raise ValueError(f"{type(loss_cls).__name__} learns the quality of boxes, so it needs one for every positive")
    return target_of(labels, qualities, channels)


def quality_matrix(labels: Tensor, qualities: Tensor, channels: int) -> Tensor:
    """Return (N, C): the qualities (N,) at the classes (N,), 0 elsewhere and in rows of the class ``channels``."""
    return (labels[:, None] == torch.arange(channels, device=labels.device)) * qualities[:, None]


_QUALITY_TARGETS = {
    "QualityFocalLoss": lambda labels, qualities, channels: (labels, qualities),
    "VarifocalLoss": quality_matrix,
}


def _quality_target(loss_cls: nn.Module) -> Callable | None:
    names = (kind.__name__ for kind in type(loss_cls).__mro__)
    return next((_QUALITY_TARGETS[name] for name in names if name in _QUALITY_TARGETS), None)


def flat_loss(
    loss_cls: nn.Module, logits: LevelTensor, targets: MapTargets, avg_factor: float | Tensor | None
) -> Tensor:
    """Flatten maps to (B * P, C), in the order of the priors, and apply a loss module to them.

    Background is class ``C``, or, where the loss is a softmax over channels of which one is the background, the last.
    """
    rows = logits.flat()
    channels = rows.shape[-1]
    background = channels if getattr(loss_cls, "use_sigmoid", True) else channels - 1
    labels = torch.full(rows.shape[:2], background, dtype=torch.long, device=rows.device)
    labels[targets.image, targets.prior] = targets.label
    qualities = None
    if targets.quality is not None:
        qualities = targets.quality.new_zeros(labels.shape)
        qualities[targets.image, targets.prior] = targets.quality
        qualities = qualities.flatten()
    rows = rows.flatten(0, 1)
    weight = None if targets.weight is None else targets.weight.flatten()
    target = flat_target(loss_cls, labels.flatten(), qualities, channels)
    if not isinstance(loss_cls, Loss):  # mmdetection's heads always weigh, and rows of targets by rows of weights
        weight = torch.ones(len(rows), device=rows.device) if weight is None else weight
        weight = weight[:, None] if isinstance(target, Tensor) and target.ndim == 2 else weight
    return loss_cls(rows, target, weight, avg_factor=avg_factor)


def by_stride(tensor: Tensor) -> list[int]:
    """Return the axes of a tensor as they lie in its memory, from the outermost to the innermost."""
    return sorted(range(tensor.ndim), key=tensor.stride, reverse=True)


def chunk_size(tensor: Tensor) -> int:
    """Return how many elements are worked on at a time where a tensor lies."""
    return CHUNK["cpu" if tensor.device.type == "cpu" else "cuda"]


def in_memory_order(*tensors: Tensor | None) -> list[Tensor | None]:
    """Return views of tensors of one shape whose axes stand as those of the first lie in its memory.

    Where that leaves nothing but one run of memory, the views are flat.
    """
    order = by_stride(tensors[0])
    views = [None if tensor is None else tensor.permute(order) for tensor in tensors]
    if all(view is None or view.is_contiguous() for view in views):
        views = [None if view is None else view.view(-1) for view in views]
    return views


def chunks(size: int, *tensors: Tensor | None) -> Iterator[list[Tensor | None]]:
    """Cut tensors of one shape into pieces of at most ``size`` elements, first axis first."""
    first = tensors[0]
    if first.numel() <= size:
        yield list(tensors)
        return
    axis = next(axis for axis in range(first.ndim) if first.shape[axis] > 1)
    step = max(size * first.shape[axis] // first.numel(), 1)
    count = -(-first.shape[axis] // step)
    pieces = [[None] * count if tensor is None else tensor.split(step, axis) for tensor in tensors]
    for some in zip(*pieces, strict=True):
        yield from chunks(size, *some)
