"""PAA: Probabilistic Anchor Assignment with IoU Prediction for Object Detection (https://arxiv.org/abs/2007.08103)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from densehead.models.heads.atss import ATSSHead
from densehead.models.heads.paa_candidates import CandidateTable, part_as_the_paper, part_at_peak
from densehead.models.heads.paa_mixture import COVARIANCE_TYPES, fit_by_sklearn, fit_mixtures
from densehead.models.losses import FocalFamily, flat_target, takes_quality
from densehead.models.losses.dense import chunk_size
from densehead.models.postprocess import Candidates, ScoredBoxes, find_priors, vote_boxes
from densehead.ops import aligned_iou
from densehead.registry import MODELS
from densehead.structures import IGNORED, NEGATIVE, Assignment, Positives, Predictions, Priors, Targets
from densehead.typing import ConfigDict, LevelMaps

FITS = {"torch": fit_mixtures, "sklearn": fit_by_sklearn}
SCHEMES = {"mmdet": part_at_peak, "paper": part_as_the_paper}


@MODELS.register_module()
class PAAHead(ATSSHead):
    """The head of PAA: that of ATSS, with the IoU in place of centre-ness, and positives that its own losses choose.

    The positives of the assigner, whichever it is, are candidates only. Of each ground truth the ``topk`` candidates of
    least loss of every level are kept, a mixture of two Gaussians is fitted to their losses, and those of the low-loss
    component up to the peak of the density are positive (section 3.1); all others are negatives. Candidates whose loss
    is not finite are left out.

    The paper's code and mmdetection part candidates differently. With ``gmm_scheme='mmdet'`` a ground truth with one
    candidate gets no positive, and neither does one without a candidate in the low-loss component; positives are of
    that component. With ``'paper'`` one candidate is positive, all are where none is in the low-loss component, and up
    to the peak all are, of whichever component.

    Args:
        topk: candidates of a ground truth and level.
        score_voting: whether boxes are refined by those around them after suppression (section 3.3).
        covariance_type: ``'full'``, ``'tied'``, ``'diag'`` or ``'spherical'``; in one dimension ``'tied'`` (one
            variance for both components) is the only one that differs.
        gmm: what fits the mixtures: ``'torch'``, all of a batch at once on their device, or ``'sklearn'``, one by one.
        gmm_scheme: ``'mmdet'`` or ``'paper'``, see above.
        args, kwargs: see :class:`ATSSHead`; ``loss_centerness`` is the loss of the IoU branch.

    Raises:
        ValueError: ``topk`` below 1, or an unknown ``covariance_type``, ``gmm`` or ``gmm_scheme``.
    """

    quality_name = "IoU"
    quality_is_predicted = True

    def __init__(
        self,
        *args,
        topk: int = 9,
        score_voting: bool = True,
        covariance_type: str = "diag",
        gmm: str = "torch",
        gmm_scheme: str = "mmdet",
        **kwargs,
    ) -> None:
        if topk < 1:
            raise ValueError(f"bbox_head.topk must be at least 1, but got {topk}")
        _check_choice("covariance_type", covariance_type, COVARIANCE_TYPES)
        _check_choice("gmm", gmm, FITS)
        _check_choice("gmm_scheme", gmm_scheme, SCHEMES)
        super().__init__(*args, **kwargs)
        self.topk = topk
        self.with_score_voting = score_voting
        self.covariance_type = covariance_type
        self.gmm = gmm
        self.gmm_scheme = gmm_scheme

    def default_assigner(self) -> ConfigDict:
        """Return the rule that names the candidates: all anchors of an IoU from 0.1 on."""
        return dict(type="MaxIoUAssigner", pos_iou_thr=0.1, neg_iou_thr=0.1, min_pos_iou=0, ignore_iof_thr=-1)

    def loss_by_feat(
        self,
        cls_scores: LevelMaps,
        bbox_preds: LevelMaps,
        iou_preds: LevelMaps,
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData | None] | None = None,
    ) -> dict[str, Tensor]:
        """Return ``loss_cls``, ``loss_bbox`` and ``loss_iou`` of the maps that ``forward`` put out.

        Args as of :meth:`ATSSHead.loss_by_feat`, with ``iou_preds`` in place of the centre-ness.
        """
        maps = (cls_scores, bbox_preds, iou_preds)
        return self._losses_from_maps(maps, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore)

    def losses(
        self, predictions: Predictions, priors: Priors, targets: Targets, assignment: Assignment
    ) -> dict[str, Tensor]:
        """Return the losses of a batch (section 3.2); the IoU weighs a box's loss and is what the IoU branch learns."""
        positives = assignment.positives(targets)
        num_pos = self._mean_over_ranks(assignment.num_pos.sum(), 0.0)
        pred_boxes = predictions.boxes_at(positives.image_index, positives.prior_index)
        iou = self.last_quality = aligned_iou(pred_boxes.detach(), positives.boxes)
        return dict(
            loss_cls=self._classification_loss(
                predictions, assignment, positives, num_pos.clamp(min=targets.num_images), iou
            ),
            loss_bbox=self.loss_bbox(
                pred_boxes,
                positives.boxes,
                weight=iou.clamp(min=1e-12),
                avg_factor=self._mean_over_ranks(iou.sum(), 0.0),
            ),
            loss_iou=self.loss_centerness(
                predictions.gather("quality_logits", positives).squeeze(-1),
                iou,
                avg_factor=num_pos,
            ),
        )

    # ---- which candidates are positive -------------------------------------------------------------------------

    def settle(self, predictions: Predictions, priors: Priors, targets: Targets, assignment: Assignment) -> Assignment:
        """Return the assignment in which only those of the candidates are positive that their losses speak for."""
        candidates = assignment.positives(targets)
        table = CandidateTable.best_of_levels(
            self.get_pos_loss(predictions, candidates),
            candidates.image_index * targets.max_count + candidates.gt_index,
            priors.level_index[candidates.prior_index],
            topk=self.topk,
            num_truths=targets.num_images * targets.max_count,
            num_levels=priors.num_levels,
        )
        component, log_density = FITS[self.gmm](table.losses, table.is_real, self.covariance_type)
        if type(self).gmm_separation_scheme is PAAHead.gmm_separation_scheme:
            is_positive = SCHEMES[self.gmm_scheme](table, component, log_density)
            is_ignored = None
        else:
            is_positive, is_ignored = self._separate_each(table, component, log_density, candidates.prior_index)
        truth = candidates.gt_index.where(table.named_by(is_positive, len(candidates)), NEGATIVE)
        if is_ignored is not None:
            truth = truth.masked_fill(table.named_by(is_ignored, len(candidates)), IGNORED)
        gt_index = assignment.gt_index.clone()
        gt_index[candidates.image_index, candidates.prior_index] = truth
        return replace(assignment, gt_index=gt_index, has_ignored=assignment.has_ignored or is_ignored is not None)

    def get_pos_loss(self, predictions: Predictions, candidates: Positives) -> Tensor:
        """Return (N,): the classification and the box loss of each candidate (equation 3)."""
        boxes = predictions.boxes_at(candidates.image_index, candidates.prior_index)
        box_loss = _per_row(self.loss_bbox(boxes, candidates.boxes, reduction_override="none"))
        quality = aligned_iou(boxes, candidates.boxes) if takes_quality(self.loss_cls) else None
        where = (candidates.image_index, candidates.prior_index, candidates.labels)
        pos_weight = self.train_cfg.get("pos_weight", -1)
        cls_loss = self._classification_losses(predictions, *where, quality)
        return cls_loss * (pos_weight if pos_weight > 0 else 1) + box_loss

    def _classification_losses(
        self,
        predictions: Predictions,
        image_index: Tensor,
        prior_index: Tensor,
        labels: Tensor,
        quality: Tensor | None,
    ) -> Tensor:
        """(N,) what ``loss_cls`` has of each positive, all classes together."""
        tensor = predictions["cls_logits"]
        # in a GPU's memory, reading the rows of the candidates costs less than a sum for every prior
        if isinstance(self.loss_cls, FocalFamily) and self.loss_cls.reads_logits and labels.device.type == "cpu":
            return self.loss_cls.costs_at(tensor, image_index, prior_index, labels, quality)
        # candidates are many, half of all priors where objects are: a cache's worth at a time
        size = max(chunk_size(labels) // self.cls_out_channels, 1)
        parts = zip(*(one.split(size) for one in (image_index, prior_index, labels)), strict=True)
        losses = []
        for number, (image, prior, label) in enumerate(parts):
            logits = tensor.at(image, prior)
            some = None if quality is None else quality[number * size : (number + 1) * size]
            target = flat_target(self.loss_cls, label, some, logits.shape[1])
            losses.append(_per_row(self.loss_cls(logits, target, reduction_override="none")))
        return torch.cat(losses)

    def gmm_separation_scheme(
        self, gmm_assignment: Tensor, scores: Tensor, pos_inds_gmm: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return the positive and the ignored of the candidates of one ground truth; the others become negatives.

        A subclass may replace it; it is then called for one ground truth of at least two candidates after the other,
        and ``gmm_scheme`` decides about those of one. As it stands, all are parted at once by what ``gmm_scheme``
        names.

        Args:
            gmm_assignment: (n,) component of each candidate, 0 for that of low losses; least loss first.
            scores: (n,) log-density of the mixture at the candidates.
            pos_inds_gmm: (n,) the candidates' priors.

        Returns:
            Priors, a subset of ``pos_inds_gmm`` each. One that is in both is ignored.
        """
        table = CandidateTable(pos_inds_gmm[None], torch.zeros_like(scores)[None])
        is_positive = SCHEMES[self.gmm_scheme](table, gmm_assignment[None], scores[None])[0]
        return pos_inds_gmm[is_positive], pos_inds_gmm[:0]

    def _separate_each(
        self, table: CandidateTable, component: Tensor, log_density: Tensor, prior_index: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Return (T, K) bool each, what a subclass's ``gmm_separation_scheme`` makes positive and ignored."""
        is_positive = SCHEMES[self.gmm_scheme](table, component, log_density) & (table.count < 2)
        is_ignored = torch.zeros_like(is_positive)
        for row, count in enumerate(table.count.squeeze(1).tolist()):
            if count > 1:
                priors = prior_index[table.index[row, :count]]
                positive, ignored = self.gmm_separation_scheme(component[row, :count], log_density[row, :count], priors)
                is_positive[row, :count] = torch.isin(priors, positive)
                is_ignored[row, :count] = torch.isin(priors, ignored)
        return is_positive, is_ignored

    # ---- detections --------------------------------------------------------------------------------------------

    def fuse_scores(self, scores: Tensor, quality_logits: Tensor) -> Tensor:
        """Return the geometric mean of class score and predicted IoU."""
        return (scores * quality_logits.sigmoid()).sqrt()

    def find_candidates(self, predictions: Predictions, cfg: Mapping) -> Candidates:
        """Return those of the best priors: ``nms_pre`` counts priors, ``score_thr`` holds for the fused score."""
        return find_priors(self, predictions, cfg)

    @property
    def refines_detections(self) -> bool:
        """See the base class."""
        return self.with_score_voting

    def refine_detections(self, detections: InstanceData, candidates: ScoredBoxes) -> InstanceData:
        """Let boxes vote; the detections then come class by class."""
        return vote_boxes(detections, candidates) if self.with_score_voting else detections


def _per_row(loss: Tensor) -> Tensor:
    """(N,) sums of losses (N, ...)."""
    return loss if loss.ndim == 1 else loss.flatten(1).sum(1)


def _check_choice(key: str, value: str, choices) -> None:
    if value not in choices:
        raise ValueError(f"bbox_head.{key} must be one of {tuple(choices)}, but got {value!r}")
