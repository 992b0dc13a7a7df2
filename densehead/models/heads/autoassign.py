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

from densehead.models.assigners.base import no_truth
from densehead.models.assigners.candidates import LOW_BITS, unpack
from densehead.models.heads.background import background_and_logits
from densehead.models.heads.best_overlaps import best_overlaps
from densehead.models.heads.center_prior import EPS, CenterPrior
from densehead.models.heads.fcos import FCOSHead
from densehead.models.heads.inside_pairs import Rectangles
from densehead.models.heads.last_of_class import last_of_class
from densehead.models.heads.pair_losses import CONFIDENCE, PositiveLoss, Scene, SparedLoss
from densehead.models.heads.towers import run_tower
from densehead.ops import full_precision
from densehead.registry import MODELS, TASK_UTILS
from densehead.structures import Assignment, Predictions, Priors, Targets
from densehead.typing import LevelMaps

SLACK = 20.0  # where the best prior of a truth is less confident than about exp(-20), no pair is left out
MISSED = 100.0  # what a ground truth without a prior costs


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

    quality_name = "positive weight"
    quality_is_predicted = True

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

    def positive_weights(self) -> Tensor:
        """Return (N,) the positive weights of the points that are said to be positive."""
        positives = self.last_assignment.positives(self.last_targets)
        return self.last_assignment.overlaps[positives.image_index, positives.prior_index]

    def losses(
        self, predictions: Predictions, priors: Priors, targets: Targets, assignment: Assignment
    ) -> dict[str, Tensor]:
        """Return the losses of a batch, and keep what their weights amount to in ``last_assignment``."""
        with torch.autocast(priors.points.device.type, enabled=False):
            return self._losses(predictions, priors, targets)

    def _losses(self, predictions: Predictions, priors: Priors, targets: Targets) -> dict[str, Tensor]:
        rectangles = self.center_prior.rectangles(priors, targets)
        log_rows, log_columns = self.center_prior(priors, targets, rectangles)
        per_truth = rectangles.sum_of_products(log_rows.exp(), log_columns.exp())
        scale_neg = self.neg_loss_weight / self._mean_over_ranks(per_truth.sum(), 1.0)
        classes, objectness = predictions["cls_logits"], predictions["quality_logits"]
        are_last = last_of_class(rectangles, targets)
        shares, labels = rectangles.shares(classes, len(priors)), rectangles.of_truth(targets.labels)
        background, cls_logits = background_and_logits(classes, objectness, scale_neg, shares, labels)

        boxes = self.bbox_coder.decode(priors.points, full_precision(predictions["box_deltas"].flat()))  # (B, P, 4)
        value = _value(boxes.detach(), rectangles, priors, targets)
        objectness, boxes = full_precision(objectness.joined).flatten(), boxes.flatten(0, 1).T
        spared = SparedLoss.apply(rectangles, value, are_last, cls_logits, objectness)
        inputs = cls_logits, objectness, boxes, log_rows, log_columns
        positive, weight, best = self._positive_loss(priors, targets, rectangles, inputs)

        num_missed = ((rectangles.count() == 0) & targets.is_valid.flatten()).sum()
        scale_pos = self.pos_loss_weight / self._mean_over_ranks(targets.is_valid.sum(), 1.0)
        self.last_assignment = _meant(best, weight, priors, targets)
        return dict(
            loss_pos=(positive + MISSED * num_missed) * scale_pos,
            loss_neg=background + spared * scale_neg,
            loss_center=self.center_loss_weight * _center_loss(per_truth, targets),
        )

    def _positive_loss(
        self, priors: Priors, targets: Targets, rectangles: Rectangles, inputs: tuple[Tensor, ...]
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what :class:`PositiveLoss` does of ``inputs``, but for the summits.

        On the host the pairs are left out whose centre prior is too low for them to change a likelihood by a rounding
        error, whatever their confidence; a GPU would have to wait to learn how many are not.
        """
        logits, *maps, log_rows, log_columns = inputs
        if logits.device.type == "cpu":
            digits = math.log(32 / torch.finfo(logits.dtype).eps)
            near, peak = rectangles.heaviest(log_rows.detach(), log_columns.detach(), digits + SLACK)
            which = torch.arange(len(near.truth))
            some = logits.index_select(0, rectangles.numbers(which, near.first - rectangles.first, near.size))
            scene = Scene(near, targets, self.loss_bbox)
            loss, summit, *found = PositiveLoss.apply(scene, some, *maps, *self.center_prior(priors, targets, near))
            is_short = near.count() < rectangles.count()
            if not (is_short & (summit < peak + CONFIDENCE - SLACK)).any():
                return loss, *found
        loss, _, *found = PositiveLoss.apply(Scene(rectangles, targets, self.loss_bbox), *inputs)
        return loss, *found

    def _unit(self, priors: Priors) -> Tensor:
        """(P, 1) ones: distances are in pixels in every mode."""
        return torch.ones_like(priors.strides)[:, None]

    def _build_assigner(self) -> None:
        if self.train_cfg.get("assigner"):
            raise ValueError(
                f"train_cfg.assigner must be absent for AutoAssignHead, but got {self.train_cfg['assigner']}: its "
                "assignment is weights inside the loss, learned with it, which no rule can take the place of"
            )


def _value(boxes: Tensor, rectangles: Rectangles, priors: Priors, targets: Targets) -> Tensor:
    """(B * P,) what grows with the best IoU that a prior's box (B, P, 4) has with any ground truth."""
    is_asked = rectangles.is_inside(boxes.shape[:2].numel()).view(boxes.shape[:2])
    return 1 / (1 - best_overlaps(boxes, is_asked, priors, targets).flatten()).clamp(min=EPS)


def _center_loss(per_truth: Tensor, targets: Targets) -> Tensor:
    """The inverse of the mean centre prior of the truths of an image; 0 for an image without a pair; their mean."""
    total = per_truth.view(targets.num_images, -1).sum(1)
    inverse = targets.is_valid.sum(1) / total.clamp(min=EPS)
    return inverse.where(total > 0, 0).mean()


def _meant(best: Tensor, weight: Tensor, priors: Priors, targets: Targets) -> Assignment:
    """The highest positive weights, see :class:`PositiveLoss`, read as an assignment, see :class:`AutoAssignHead`."""
    shape = targets.num_images, len(priors)
    gt_index = (LOW_BITS - unpack(best)[1]).where(best >= 0, -1)
    return Assignment(gt_index.view(shape), weight.view(shape))
