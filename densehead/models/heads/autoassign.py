"""AutoAssign: Differentiable Label Assignment for Dense Object Detection (https://arxiv.org/abs/2007.03496).

On CUDA the losses wait for the device twice, for lengths of lists: of the pairs of a truth and a point inside it (and
of the truths without one, with ``force_topk``), and of the boxes that overlap.
"""

from __future__ import annotations

import math

import torch
from mmcv.cnn import Scale
from mmengine.model import bias_init_with_prob, normal_init
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn import functional as F

from densehead.models.assigners.base import no_truth
from densehead.models.assigners.candidates import pack, unpack
from densehead.models.heads.background import LEAST, background_and_logits
from densehead.models.heads.center_prior import EPS, CenterPrior
from densehead.models.heads.fcos import FCOSHead
from densehead.models.heads.inside_pairs import Pairs, best_overlaps
from densehead.models.heads.towers import run_tower
from densehead.ops import full_precision
from densehead.registry import MODELS, TASK_UTILS
from densehead.structures import Assignment, Predictions, Priors, Targets
from densehead.typing import LevelMaps

CONFIDENCE = 3.0  # how much more a confident place counts: the inverse of the paper's temperature
MISSED = 100.0  # what a ground truth without a prior costs
MEANT = 0.5  # share of a ground truth's highest weight from which on a prior is said to be its positive


@MODELS.register_module()
class AutoAssignHead(FCOSHead):
    """The head of AutoAssign: no prior is positive or negative; every one in a box is both, by learned weights.

    Its branches are those of FCOS with an objectness, never supervised itself, in place of the centre-ness. A prior's
    confidence in a ground truth is ``sigmoid(class) * sigmoid(objectness) * exp(-loss_bbox)``.

    ``loss_pos`` is the likelihood of each ground truth under its priors, weighted by confidence and centre prior;
    ``loss_neg`` a focal loss of all scores as background, from which priors are spared by the IoU of their boxes;
    ``loss_center`` keeps the centre priors from vanishing. There is nothing left to assign, so ``train_cfg.assigner``
    is refused. For the log and for pictures a prior is said to be positive for the ground truth in which it has the
    highest positive weight, if that is at least half of the highest that the ground truth has anywhere;
    ``last_assignment.overlaps`` holds the highest positive weight of every prior.

    Where boxes of one class overlap, the spared share of a prior's score is that of the last ground truth, as on
    the CPU in mmdetection, where the order of writing decides.

    Args:
        args: see :class:`FCOSHead`.
        force_topk, topk: see :class:`CenterPrior`.
        pos_loss_weight, neg_loss_weight, center_loss_weight: factors of the three losses.
        kwargs: see :class:`FCOSHead`. ``loss_bbox`` may be any loss of boxes. Without use: ``loss_cls`` (but for
            ``use_sigmoid``), ``loss_centerness``, ``regress_ranges``, ``center_sampling``, ``center_sample_radius``,
            ``norm_on_bbox`` and ``centerness_on_reg`` (both are as if True), ``train_cfg.pos_weight``.

    Raises:
        ValueError: ``train_cfg.assigner``, a ``loss_cls`` of softmax scores.
    """

    def __init__(
        self,
        *args,
        force_topk: bool = False,
        topk: int = 9,
        pos_loss_weight: float = 0.25,
        neg_loss_weight: float = 0.75,
        center_loss_weight: float = 0.75,
        **kwargs,
    ) -> None:
        super().__init__(*args, conv_bias=True, **kwargs)
        if not self.use_sigmoid_cls:
            raise ValueError(
                "bbox_head.loss_cls must have use_sigmoid=True for AutoAssignHead: it multiplies the score of "
                "each class with the objectness, which a softmax over classes and background has no place for"
            )
        self.center_prior = CenterPrior(force_topk, topk, self.num_classes, self.strides)
        self.pos_loss_weight = pos_loss_weight
        self.neg_loss_weight = neg_loss_weight
        self.center_loss_weight = center_loss_weight
        points = dict(type="MlvlPointGenerator", strides=self.strides, offset=0)
        self.prior_generator = TASK_UTILS.build(points)

    def init_weights(self) -> None:
        """Initialise the weights: scores of 0.02, and boxes of 8 strides."""
        super().init_weights()
        normal_init(self.conv_cls, std=0.01, bias=bias_init_with_prob(0.02))
        normal_init(self.conv_reg, std=0.01, bias=4.0)

    def forward_single(self, x: Tensor, scale: Scale, stride: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores (B, C, h, w) and objectness (B, 1, h, w) before the sigmoid, and distances (B, 4, h, w) in
        pixels, of one level.
        """
        cls_feat, reg_feat = run_tower(self.cls_convs, x), run_tower(self.reg_convs, x)
        bbox_pred = scale(self.conv_reg(reg_feat)).float().clamp(min=0) * stride
        return self.conv_cls(cls_feat), bbox_pred, self.conv_centerness(reg_feat)

    def loss_by_feat(
        self,
        cls_scores: LevelMaps,
        bbox_preds: LevelMaps,
        objectnesses: LevelMaps,
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData | None] | None = None,
    ) -> dict[str, Tensor]:
        """Return ``loss_pos``, ``loss_neg`` and ``loss_center``; ``objectnesses`` are (B, 1, h, w) a level."""
        maps = (cls_scores, bbox_preds, objectnesses)
        return self._losses_from_maps(maps, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore)

    def assign(self, priors: Priors, targets: Targets, predictions: Predictions) -> Assignment:
        """Assign nothing: what counts for what comes out of :meth:`losses`."""
        return no_truth(priors, targets)

    def losses(
        self, predictions: Predictions, priors: Priors, targets: Targets, assignment: Assignment
    ) -> dict[str, Tensor]:
        """Return the losses of a batch, and keep what their weights amount to in ``last_assignment``."""
        with torch.autocast(priors.points.device.type, enabled=False):
            return self._losses(predictions, priors, targets)

    def _losses(self, predictions: Predictions, priors: Priors, targets: Targets) -> dict[str, Tensor]:
        pairs = self.center_prior.pairs(priors, targets)
        log_prior = self.center_prior(priors, targets, pairs)
        per_truth = pairs.sum(log_prior.exp())
        scale_neg = self.neg_loss_weight / self._mean_over_ranks(per_truth.sum(), 1.0)
        labels = pairs.of_truth(targets.labels)
        classes, objectness = predictions["cls_logits"], predictions["quality_logits"]
        shares = pairs.shares(classes, len(priors))
        background, cls_logits = background_and_logits(classes, objectness, scale_neg, shares, labels)
        objectness = pairs.of_place(full_precision(objectness.joined))
        boxes = self.bbox_coder.decode(priors.points, full_precision(predictions["box_deltas"].flat()))  # (B, P, 4)

        log_confidence = F.logsigmoid(cls_logits) + F.logsigmoid(objectness) - self._box_loss(boxes, targets, pairs)
        likelihood, weight = _likelihood(log_confidence, log_prior, pairs)
        loss = likelihood.neg().where(pairs.count() > 0, MISSED).where(targets.is_valid.flatten(), 0)
        scale_pos = self.pos_loss_weight / self._mean_over_ranks(targets.is_valid.sum(), 1.0)

        spared = _spared_share(boxes.detach(), pairs, targets)
        spared = spared * _is_last(pairs, pairs.place * self.num_classes + labels)
        spared_loss = _as_background(cls_logits, objectness, spared) - _as_background(cls_logits, objectness, 0.0)

        self.last_assignment = _meant(weight.detach(), pairs, priors, targets)
        return dict(
            loss_pos=loss.sum() * scale_pos,
            loss_neg=background + spared_loss.sum() * scale_neg,
            loss_center=self.center_loss_weight * _center_loss(per_truth, targets),
        )

    def _box_loss(self, boxes: Tensor, targets: Targets, pairs: Pairs) -> Tensor:
        """(N,) ``loss_bbox`` of every pair; that of its sides in sum where it is one a side."""
        pred = torch.stack([pairs.of_place(side) for side in boxes.unbind(-1)], -1)
        truth = torch.stack([pairs.of_truth(side) for side in targets.boxes.unbind(-1)], -1)
        loss = self.loss_bbox(pred, truth, reduction_override="none")
        return loss if loss.ndim == 1 else loss.sum(-1)

    def _unit(self, priors: Priors) -> Tensor:
        """(P, 1) ones: distances are in pixels in every mode."""
        return torch.ones_like(priors.strides)[:, None]

    def _build_assigner(self) -> None:
        if self.train_cfg.get("assigner"):
            raise ValueError(
                f"train_cfg.assigner must be absent for AutoAssignHead, but got {self.train_cfg['assigner']}: its "
                "assignment is weights inside the loss, learned with it, which no rule can take the place of"
            )


def _likelihood(log_confidence: Tensor, log_prior: Tensor, pairs: Pairs) -> tuple[Tensor, Tensor]:
    """Return (B * G,) the logarithm of each truth's likelihood, and (N,) the positive weight of each pair.

    Weights are the paper's confidence weighting times its centre weighting. All is in logarithms, so that confidences
    beyond the least float32 still have a gradient.
    """
    log_weight = CONFIDENCE * log_confidence.exp() + log_prior
    total = pairs.logsumexp(log_weight).clamp(min=math.log(EPS))
    log_weight = log_weight - pairs.of_truth(total)
    return pairs.logsumexp(log_confidence + log_weight), log_weight.exp()


@torch.no_grad()
def _spared_share(boxes: Tensor, pairs: Pairs, targets: Targets) -> Tensor:
    """(N,) the share in [0, 1] of its score that a prior is not trained as background with.

    It grows with the best IoU that the prior's box (B, P, 4) has with any ground truth, from about 0 for the worst to 1
    for the best prior of a ground truth.
    """
    is_asked = torch.zeros(boxes.shape[:2], dtype=torch.bool, device=boxes.device)
    is_asked.view(-1)[pairs.place] = True
    overlap = pairs.of_place(best_overlaps(boxes, is_asked, targets))
    value = 1 / (1 - overlap).clamp(min=EPS)
    low, high = pairs.of_truth(pairs.amin(value)), pairs.of_truth(pairs.amax(value))
    return (value - low + EPS) / (high - low + EPS)


def _is_last(pairs: Pairs, score: Tensor) -> Tensor:
    """(N,) whether a pair is, of those that share a score (N,), the one of the last ground truth."""
    order = (score * pairs.num_truths + pairs.truth).argsort()
    score = score[order]
    is_last = torch.cat([score[1:] != score[:-1], torch.ones_like(score[:1], dtype=torch.bool)])
    return torch.empty_like(is_last).scatter_(0, order, is_last)


def _as_background(cls_logits: Tensor, objectness: Tensor, spared: Tensor | float) -> Tensor:
    """(N,) ``-r^2 * log(1 - r)`` of the joint scores ``q`` less the share that is spared, ``r = q * (1 - spared)``."""
    is_object, joint = objectness.sigmoid(), cls_logits.sigmoid() * objectness.sigmoid()
    rest = (-objectness).sigmoid() + (-cls_logits).sigmoid() * is_object + joint * spared
    return -((joint * (1 - spared)) ** 2) * rest.clamp(min=LEAST).log()


def _center_loss(per_truth: Tensor, targets: Targets) -> Tensor:
    """The inverse of the mean centre prior of the truths of an image; 0 for an image without a pair; their mean."""
    total = per_truth.view(targets.num_images, -1).sum(1)
    inverse = targets.is_valid.sum(1) / total.clamp(min=EPS)
    return inverse.where(total > 0, 0).mean()


@torch.no_grad()
def _meant(weight: Tensor, pairs: Pairs, priors: Priors, targets: Targets) -> Assignment:
    """The positive weights (N,) read as an assignment; see :class:`AutoAssignHead`."""
    shape = targets.num_images, len(priors)
    truth = _divide(pairs.truth, targets.max_count)[1]
    key = pack(weight, 0xFFFFFFFF - truth).where(weight >= MEANT * pairs.of_truth(pairs.amax(weight)), -1)
    best = truth.new_full((shape[0] * shape[1],), -1).scatter_reduce_(0, pairs.place, key, "amax")
    gt_index = (0xFFFFFFFF - unpack(best)[1]).where(best >= 0, -1)
    overlaps = weight.new_zeros(len(best)).scatter_reduce_(0, pairs.place, weight, "amax")
    return Assignment(gt_index.view(shape), overlaps.view(shape))


def _divide(index: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Quotient and remainder of an index; the size may be 0 where there is no index."""
    quotient = index.div(max(size, 1), rounding_mode="floor")
    return quotient, index - quotient * size
