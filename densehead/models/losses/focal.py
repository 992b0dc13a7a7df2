"""The focal loss, and the pass over score maps that it shares with its kin of soft targets."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from densehead.compat import is_compiling
from densehead.models.losses import functional
from densehead.models.losses.background import Background, PriorBackground
from densehead.models.losses.base import in_float32, normalizer
from densehead.models.losses.dense import ClassificationLoss, MapTargets, as_levels, flat_loss, pick, takes_quality
from densehead.ops import full_precision, sigmoid_focal_loss
from densehead.registry import MODELS
from densehead.structures.level_tensor import LevelTensor, Share


class FocalFamily(ClassificationLoss):
    """A classification loss of sigmoid scores in which a background costs ``w * sigmoid^gamma * softplus``.

    So do focal, quality focal and varifocal loss; they differ in what a positive's own class costs.

    Attributes:
        negative_weight: ``w``.
        focus: ``gamma``.
        plain: compute :meth:`forward_maps` by PyTorch's own differentiation: slower, with a few copies of the maps,
            and differentiable twice.
    """

    plain = False
    activated = False

    @property
    def negative_weight(self) -> float:
        return 1.0

    @property
    def focus(self) -> float:
        raise NotImplementedError

    @property
    def reads_logits(self) -> bool:
        """Whether :meth:`forward_maps` takes one pass over the logits, and is no plain form or of activated scores."""
        return not (self.activated or self.plain or self.reduction == "none")

    def positive_term(self, logits: Tensor, quality: Tensor | None) -> Tensor:
        """Return (N,) what the logits (N,) of the positives' own classes cost; their qualities are (N,)."""
        raise NotImplementedError

    def num_losses(self, logits: LevelTensor) -> int:
        """Return over how many losses a mean without ``avg_factor`` goes."""
        return sum(piece.numel() for piece in logits.pieces)

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
        """As the base has it, with value and gradient from one pass over the memory (unless ``plain``)."""
        if takes_quality(self) and pos_quality is None:
            raise ValueError(f"{type(self).__name__}.forward_maps needs pos_quality, the quality of every positive")
        logits = as_levels(logits)
        targets = MapTargets.of(logits, pos_image, pos_prior, pos_label, weight, pos_weight, pos_quality)
        if self.activated or self.reduction == "none":
            return flat_loss(self, logits, targets, avg_factor)
        pieces, shares = logits.pieces, logits.shares(pos_image, pos_prior)
        factor = self.loss_weight / normalizer(self.reduction, avg_factor, self.num_losses(logits))
        factor = torch.as_tensor(factor, dtype=full_precision(pieces[0]).dtype, device=pieces[0].device).detach()
        with torch.autocast(pieces[0].device.type, enabled=False):
            if self.plain or is_compiling():  # which fuses it by itself
                return factor * self._plain([in_float32(piece) for piece in pieces], shares, targets)
            return _FusedFocal.apply(shares, targets, factor, self, logits.memo.pop(self, None), *pieces)

    @torch.no_grad()
    def costs_at(
        self, logits: LevelTensor, image: Tensor, prior: Tensor, label: Tensor, quality: Tensor | None
    ) -> Tensor:
        """Return (N,) what priors cost as positives of classes (N,), all classes together, without gradients.

        That takes the pass over all maps that :meth:`forward_maps` takes too, which then finds it done.

        Args:
            logits: C numbers a prior.
            image, prior: (N,) the priors.
            label: (N,) their classes.
            quality: (N,) for the losses that learn it.
        """
        pieces, shares = logits.pieces, logits.shares(image, prior)
        if self not in logits.memo:
            logits.memo[self] = PriorBackground.of(pieces, self.focus)
        cost = self.negative_weight * pick(logits.memo[self].costs, shares, torch.zeros_like(label))
        picked = in_float32(pick(pieces, shares, label))
        background = self.negative_weight * functional.focal_term(picked, self.focus)
        return self.loss_weight * (cost + self.positive_term(picked, in_float32(quality)) - background)

    def _plain(self, pieces: Sequence[Tensor], shares: Sequence[Share], targets: MapTargets) -> Tensor:
        """Return the sum of the losses: of backgrounds everywhere, corrected at the positives."""
        total = 0.0
        for piece, weight in zip(pieces, targets.weight_like(pieces), strict=True):
            background = self.negative_weight * functional.focal_term(piece, self.focus)
            total = total + (background.sum() if weight is None else (background * weight).sum())
        picked = pick(pieces, shares, targets.label)
        return total + self._as_positives(picked, targets) - self._as_background(picked, targets)

    def _as_positives(self, picked: Tensor, targets: MapTargets) -> Tensor:
        """Return what the positives' own logits (N,) cost, summed."""
        return (self.positive_term(picked, in_float32(targets.quality)) * targets.weight_of_positives()).sum()

    def _as_background(self, picked: Tensor, targets: MapTargets) -> Tensor:
        """Return what they would cost as background, summed."""
        background = self.negative_weight * functional.focal_term(picked, self.focus)
        return (background * targets.weight_of_positives()).sum()


@MODELS.register_module()
class FocalLoss(FocalFamily):
    """Focal loss (Lin et al., ICCV 2017) of sigmoid scores.

    Args:
        use_sigmoid: must be True.
        gamma: focusing exponent.
        alpha: weight of the positives; negatives weigh ``1 - alpha``.
        reduction: ``'none'``, ``'mean'`` or ``'sum'``.
        loss_weight: factor of the result.
        activated: whether predictions have been through the sigmoid.

    Raises:
        ValueError: ``use_sigmoid=False``, or ``alpha`` outside [0, 1].
    """

    def __init__(
        self,
        use_sigmoid: bool = True,
        gamma: float = 2.0,
        alpha: float = 0.25,
        reduction: str = "mean",
        loss_weight: float = 1.0,
        activated: bool = False,
    ) -> None:
        super().__init__(reduction, loss_weight)
        if not use_sigmoid:
            raise ValueError("FocalLoss has use_sigmoid=True only; softmax scores: type='CrossEntropyLoss'")
        if not 0 <= alpha <= 1:
            raise ValueError(f"alpha of FocalLoss must lie in [0, 1], but got {alpha}")
        self.use_sigmoid = use_sigmoid
        self.gamma = gamma
        self.alpha = alpha
        self.activated = activated

    def per_element(self, pred: Tensor, target: Tensor) -> Tensor:
        """Return (N, C) losses of ``target`` (N,), class indices with ``C`` for background, or (N, C) in [0, 1]."""
        if pred.ndim == target.ndim:
            return functional.focal_loss(pred, target.to(pred.dtype), self.gamma, self.alpha, self.activated)
        if not self.activated:
            return sigmoid_focal_loss(pred, target, self.gamma, self.alpha)
        one_hot = F.one_hot(target, pred.shape[1] + 1)[:, : pred.shape[1]].to(pred.dtype)
        return functional.focal_loss(pred, one_hot, self.gamma, self.alpha, activated=True)

    @property
    def negative_weight(self) -> float:
        return 1 - self.alpha

    @property
    def focus(self) -> float:
        return self.gamma

    def positive_term(self, logits: Tensor, quality: Tensor | None) -> Tensor:
        return self.alpha * functional.focal_term(-logits, self.gamma)


class _FusedFocal(torch.autograd.Function):
    """Value and gradient in one pass over the logits, in the order of their memory and a cache's worth at a time.

    Kept for the backward pass is the gradient alone. It stays in float32 where the logits are of half precision: a
    loss scale, with which it is yet to be multiplied, is there because it might not fit into float16.
    """

    @staticmethod
    def forward(
        ctx,
        shares: list[Share],
        targets: MapTargets,
        factor: Tensor,
        loss: FocalFamily,
        known: PriorBackground | None,
        *pieces: Tensor,
    ) -> Tensor:
        needs_grad = any(ctx.needs_input_grad)
        weights, balance = targets.weight_like(pieces), factor * loss.negative_weight
        if known is None:
            background = Background.of(pieces, weights, balance, loss.focus, needs_grad=needs_grad)
        else:
            background = known.weighted(weights, balance)
        picked = pick(pieces, shares, targets.label).to(factor.dtype)
        with torch.enable_grad():  # the positives are few
            positive = loss._as_positives(picked.requires_grad_(needs_grad), targets)
        if needs_grad:
            slope = factor * torch.autograd.grad(positive, picked)[0]
            for grad, share in zip(background.grads, shares, strict=True):
                grad[share.image, share.base, share.of(targets.label), share.place] = share.of(slope)
            ctx.save_for_backward(*background.grads)
        ctx.dtype, ctx.name = pieces[0].dtype, type(loss).__name__
        correction = positive.detach() - loss._as_background(picked.detach(), targets)
        return background.total + factor * correction

    @staticmethod
    def backward(ctx, grad_output: Tensor):
        if torch.is_grad_enabled():
            raise RuntimeError(
                f"{ctx.name}.forward_maps cannot be differentiated twice (create_graph=True): set plain=True on the "
                "loss module, e.g. head.loss_cls.plain = True, for the slower form that can"
            )
        grads = ctx.saved_tensors
        if grad_output.device.type != "cpu" or grad_output.item() != 1:  # on the host the look spares a pass
            grads = [grad * grad_output for grad in grads]
        return None, None, None, None, None, *(grad.to(ctx.dtype) for grad in grads)
