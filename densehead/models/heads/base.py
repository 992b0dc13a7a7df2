"""What all heads share: from level maps to losses, and from level maps to detections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from mmengine.model import BaseModule
from mmengine.structures import InstanceData
from torch import Tensor

from densehead.models.assigners import BaseAssigner, build_assigner
from densehead.models.foreign import build_coder, build_prior_generator, fit_box_loss
from densehead.models.heads.finite import LossReport, check_losses
from densehead.models.losses import check_kind, classification_loss, takes_quality
from densehead.models.postprocess import Candidates, ScoredBoxes, detect, find_classes
from densehead.models.priors import GridPriorGenerator
from densehead.ops import aligned_iou, compiled_losses, reduce_mean
from densehead.registry import MODELS
from densehead.structures import Assignment, DetDataSample, Positives, Predictions, Priors, Targets
from densehead.typing import ConfigDict, InitConfig, LevelMaps, OptConfig

POINT_BOX_SCALE = 8  # the side of ATSS's anchors, in strides


class DenseHead(BaseModule):
    """A head that predicts classes and boxes at every prior of every pyramid level.

    A subclass brings its branches (``forward``), says how boxes are read from its maps (``boxes_at``), names its
    assigner and computes its losses (``losses``). The way from maps to losses and to detections stands here, once.

    Args:
        num_classes: number of classes, without background.
        in_channels: channels of the feature maps.
        feat_channels: channels of the towers.
        prior_generator: config of the priors.
        bbox_coder: config of the coder.
        loss_cls, loss_bbox: configs of the losses; ``loss_cls.use_sigmoid`` says whether classes are independent.
        train_cfg: ``assigner`` (the head's own if absent); ``point_box_scale``, the side in strides of the squares
            that stand for priors without extent where the assigner goes by IoU (8); ``pos_weight``, weight of a
            positive's classification loss where above 0; ``compile_losses``, whether the pass over the score maps is
            compiled where it runs on a CPU (False; see :func:`densehead.ops.compiled_losses`); and what the head's
            docstring names.
        test_cfg: ``nms_pre``, ``score_thr``, ``min_bbox_size``, ``nms``, ``max_per_img``; see
            :func:`densehead.models.postprocess.detect`.
        init_cfg: initialisation of the weights.

    Raises:
        ValueError: ``num_classes`` below 1, a sampler other than ``PseudoSampler``, a loss of boxes for classes or of
            classes for boxes.
    """

    map_names: tuple[str, ...] = ("cls_logits", "box_deltas", "quality_logits")
    quality_name: str = "IoU"  # what positive_weights are
    quality_is_predicted: bool = True  # whether they depend on what the head puts out

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        feat_channels: int,
        prior_generator: ConfigDict,
        bbox_coder: ConfigDict,
        loss_cls: ConfigDict,
        loss_bbox: ConfigDict,
        train_cfg: OptConfig = None,
        test_cfg: OptConfig = None,
        init_cfg: InitConfig = None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        if num_classes < 1:
            raise ValueError(f"bbox_head.num_classes must be at least 1, but got {num_classes}")
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.feat_channels = feat_channels
        self.use_sigmoid_cls = loss_cls.get("use_sigmoid", False)
        self.cls_out_channels = num_classes if self.use_sigmoid_cls else num_classes + 1
        self.prior_generator = build_prior_generator(prior_generator)
        self.num_base_priors = self._count_base_priors()
        self.bbox_coder = build_coder(bbox_coder)
        self.loss_cls = MODELS.build(loss_cls)
        self.loss_bbox = fit_box_loss(MODELS.build(loss_bbox))
        check_kind(self.loss_cls, "loss_cls", is_of_classes=True)
        check_kind(self.loss_bbox, "loss_bbox", is_of_classes=False)
        self.train_cfg = train_cfg or {}
        self.test_cfg = test_cfg
        self._check_sampler()
        self.assigner = self._build_assigner()
        # what the last loss was computed on, for hooks and pictures
        self.last_priors: Priors | None = None
        self.last_targets: Targets | None = None
        self.last_assignment: Assignment | None = None
        self.last_quality: Tensor | None = None  # (N,) of the positives, see positive_weights
        # of losses on a GPU, for who wants to look at them later; it holds the maps
        self.last_report: LossReport | None = None
        self.keeps_report = False

    # ---- what a head is ----------------------------------------------------------------------------------------

    def default_assigner(self) -> ConfigDict:
        """Return the config of the assigner that the head's paper uses."""
        raise NotImplementedError

    def boxes_at(self, predictions: Predictions, priors: Priors, image_index: Tensor, prior_index: Tensor) -> Tensor:
        """Return (..., 4) xyxy in pixels: the boxes that the head predicts at priors of images, not clipped."""
        raise NotImplementedError

    def losses(
        self, predictions: Predictions, priors: Priors, targets: Targets, assignment: Assignment
    ) -> dict[str, Tensor]:
        """Return the losses of a batch, one scalar each."""
        raise NotImplementedError

    def settle(self, predictions: Predictions, priors: Priors, targets: Targets, assignment: Assignment) -> Assignment:
        """Return the assignment that the losses are computed on, made of the assigner's; without gradients."""
        return assignment

    def fuse_scores(self, scores: Tensor, quality_logits: Tensor) -> Tensor:
        """Return (N,) the scores that detections are ranked by, of class scores and quality logits (N,)."""
        return scores * quality_logits.sigmoid()

    def find_candidates(self, predictions: Predictions, cfg: Mapping) -> Candidates:
        """Return what suppression gets to see, by ``test_cfg``'s ``score_thr`` and ``nms_pre``."""
        return find_classes(self, predictions, cfg)

    def refine_detections(self, detections: InstanceData, candidates: ScoredBoxes) -> InstanceData:
        """Return the detections of an image, made of what suppression left and of all its candidates."""
        return detections

    def positive_weights(self) -> Tensor:
        """Return (N,) in [0, 1]: how much the last loss made of each positive, in the order of
        ``last_assignment.positives(last_targets)``; the head's ``quality_name`` says what it is. 1 where the loss
        has kept nothing.
        """
        count = int(self.last_assignment.num_pos.sum())
        if self.last_quality is None or len(self.last_quality) != count:
            return torch.ones(count, device=self.last_assignment.gt_index.device)
        return self.last_quality

    @property
    def assigns_by_predictions(self) -> bool:
        """Whether it depends on what the head puts out which prior answers for which ground truth."""
        if self.assigner is None or type(self).settle is not DenseHead.settle:
            return True
        return self.assigner.needs_predictions

    @property
    def refines_detections(self) -> bool:
        """Whether all candidates are wanted, not only those that can become detections."""
        return type(self).refine_detections is not DenseHead.refine_detections

    # ---- from features, as detectors call it -------------------------------------------------------------------

    def loss(self, x: Sequence[Tensor], batch_data_samples: list[DetDataSample]) -> dict[str, Tensor]:
        """Return the losses of a batch and, for the log, per image: ``num_pos``, positives, and ``num_missed``, ground
        truths that got none.

        Args:
            x: feature maps, one (B, in_channels, h, w) a level.
            batch_data_samples: with ``gt_instances`` (and ``ignored_instances``) and meta keys ``img_shape``,
                ``pad_shape``.
        """
        return self._loss_of(self(x), batch_data_samples)

    def loss_and_predict(
        self, x: Sequence[Tensor], batch_data_samples: list[DetDataSample], proposal_cfg: OptConfig = None
    ) -> tuple[dict[str, Tensor], list[InstanceData]]:
        """Return what :meth:`loss` and :meth:`predict` do, from one pass through the branches."""
        maps = self(x)
        metas = [sample.metainfo for sample in batch_data_samples]
        losses = self._loss_of(maps, batch_data_samples)
        return losses, self.predict_by_feat(*maps, batch_img_metas=metas, cfg=proposal_cfg)

    def predict(
        self, x: Sequence[Tensor], batch_data_samples: list[DetDataSample], rescale: bool = False
    ) -> list[InstanceData]:
        """Return the detections of each image: ``bboxes`` (n, 4) xyxy, ``scores`` (n,), ``labels`` (n,).

        Args:
            x: feature maps, one (B, in_channels, h, w) a level.
            batch_data_samples: with meta keys ``img_shape`` and, to rescale, ``scale_factor``.
            rescale: whether boxes are in pixels of the original image.
        """
        metas = [sample.metainfo for sample in batch_data_samples]
        return self.predict_by_feat(*self(x), batch_img_metas=metas, rescale=rescale)

    # ---- from level maps ---------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict_by_feat(
        self,
        cls_scores: LevelMaps,
        bbox_preds: LevelMaps,
        score_factors: LevelMaps | None = None,
        batch_img_metas: list[dict] | None = None,
        cfg: OptConfig = None,
        rescale: bool = False,
        with_nms: bool = True,
    ) -> list[InstanceData]:
        """Return the detections of each image from the maps that ``forward`` put out.

        Args:
            cls_scores: (B, A * C, h, w) a level, before the sigmoid.
            bbox_preds: (B, A * 4, h, w) a level (or what the head's boxes are read from).
            score_factors: (B, A, h, w) a level, by whose sigmoid the scores are multiplied; none if None.
            batch_img_metas: ``img_shape`` and, to rescale, ``scale_factor`` of each image.
            cfg: in place of ``test_cfg``.
            rescale: whether boxes are in pixels of the original image.
            with_nms: whether overlapping detections are suppressed and their number limited.
        """
        maps = [cls_scores, bbox_preds] + ([score_factors] if score_factors is not None else [])
        priors = self._priors(bbox_preds)
        cfg = self.test_cfg if cfg is None else cfg
        return detect(self, self._read(maps, priors), priors, batch_img_metas, cfg, rescale, with_nms)

    def _loss_of(self, maps: tuple[LevelMaps, ...], samples: list[DetDataSample], **options) -> dict[str, Tensor]:
        """Return what :meth:`loss` does; ``options`` go to ``loss_by_feat``."""
        truth = [sample.gt_instances for sample in samples]
        ignored = [sample.get("ignored_instances") for sample in samples]
        self.last_assignment = self.last_quality = None
        losses = self.loss_by_feat(*maps, truth, [sample.metainfo for sample in samples], ignored, **options)
        if self.last_assignment is None:  # a subclass that computes its losses without the shared way
            return losses
        return losses | {
            "num_pos": self.last_assignment.num_pos.float().mean(),
            "num_missed": self.last_assignment.num_missed(self.last_targets).float().mean(),
        }

    def _losses_from_maps(
        self,
        maps: tuple[LevelMaps, ...],
        truth: list[InstanceData],
        metas: list[dict],
        ignored: list[InstanceData | None] | None,
        *,
        assign_by: Predictions | None = None,
    ) -> dict[str, Tensor]:
        """What every head's ``loss_by_feat`` does; ``assign_by`` are the predictions that the assigner looks at."""
        targets = Targets.from_instances(truth, ignored, num_classes=self.num_classes, device=maps[0][0].device)
        priors = self._training_priors(maps[0], metas)
        predictions = self._read(maps, priors)
        with compiled_losses(self.train_cfg.get("compile_losses", False)):
            assignment = self.assign(priors, targets, assign_by or predictions)
            self.last_priors, self.last_targets, self.last_assignment = priors, targets, assignment
            losses = self.losses(predictions, priors, targets, assignment)
        self.last_report = check_losses(losses, predictions, targets, priors, metas, keep=self.keeps_report)
        return losses

    @torch.no_grad()
    def assign(self, priors: Priors, targets: Targets, predictions: Predictions) -> Assignment:
        """Return which prior answers for which ground truth, by the assigner and :meth:`settle`."""
        seen = priors
        if self.assigner.needs_extent and priors.are_points:
            seen = priors.as_squares(self.train_cfg.get("point_box_scale", POINT_BOX_SCALE))
        return self.settle(predictions, priors, targets, self.assigner(seen, targets, predictions))

    def predictions_of(self, maps: Mapping[str, LevelMaps], priors: Priors) -> Predictions:
        """Return maps, by the names that the head's losses have for them, as what losses and rules read."""
        return Predictions(
            self.num_base_priors,
            read_boxes=lambda predictions, *index: self.boxes_at(predictions, priors, *index),
            class_form="sigmoid" if self.use_sigmoid_cls else "softmax",
            **maps,
        )

    def _read(self, maps: Sequence[LevelMaps], priors: Priors) -> Predictions:
        return self.predictions_of(dict(zip(self.map_names, maps, strict=False)), priors)

    def _priors(self, maps: LevelMaps) -> Priors:
        return self.prior_generator.priors([level.shape[-2:] for level in maps], maps[0].device)

    def _training_priors(self, maps: LevelMaps, metas: list[dict]) -> Priors:
        """The priors that the losses are computed on; a head that leaves some out says so here."""
        return self._priors(maps)

    def _inside_images(self, generator: GridPriorGenerator, maps: LevelMaps, metas: list[dict]) -> Priors:
        """The priors of a generator without, image by image, those that begin in the padding or reach too far out."""
        sizes, device = [level.shape[-2:] for level in maps], maps[0].device
        pad_shapes = [meta.get("pad_shape", meta["img_shape"])[:2] for meta in metas]
        image_shapes = [meta["img_shape"][:2] for meta in metas]
        border = self.train_cfg.get("allowed_border", -1)
        ranges = generator.valid_ranges(sizes, pad_shapes, device, image_shapes, border)
        return generator.priors(sizes, device).restricted(ranges)

    # ---- pieces of losses --------------------------------------------------------------------------------------

    def _classification_loss(
        self,
        predictions: Predictions,
        assignment: Assignment,
        positives: Positives,
        avg_factor: Tensor,
        quality: Tensor | None = None,
    ) -> Tensor:
        """Classification loss over all priors that are not ignored.

        Where ``loss_cls`` learns qualities, those of the positives are ``quality`` (N,) or else the IoU of the
        predicted with the true boxes.
        """
        if takes_quality(self.loss_cls) and quality is None:
            with torch.no_grad():
                boxes = predictions.boxes_at(positives.image_index, positives.prior_index)
                quality = aligned_iou(boxes, positives.boxes)
        weight = (~assignment.is_ignored).float() if assignment.has_ignored else None
        pos_weight = self.train_cfg.get("pos_weight", -1)
        return classification_loss(
            self.loss_cls,
            predictions["cls_logits"],
            positives.image_index,
            positives.prior_index,
            positives.labels,
            pos_quality=quality,
            weight=weight,
            pos_weight=pos_weight if pos_weight > 0 else None,
            avg_factor=avg_factor,
        )

    @staticmethod
    def _mean_over_ranks(total: Tensor, minimum: float) -> Tensor:
        """Average a normaliser over the ranks; every rank calls it, whatever its images hold."""
        return reduce_mean(total.detach().float()).clamp(min=minimum)

    # ---- construction ------------------------------------------------------------------------------------------

    def _build_assigner(self) -> BaseAssigner:
        return build_assigner(self.train_cfg.get("assigner") or self.default_assigner())

    def _check_sampler(self) -> None:
        sampler = self.train_cfg.get("sampler")
        kind = None if sampler is None else getattr(sampler["type"], "__name__", sampler["type"])
        if kind is not None and kind.rpartition(".")[2] != "PseudoSampler":
            raise ValueError(
                f"train_cfg.sampler must be absent or PseudoSampler, but got {kind}: dense heads train on "
                "all priors that their assigner does not ignore"
            )

    def _count_base_priors(self) -> int:
        counts = set(self.prior_generator.num_base_priors)
        if len(counts) > 1:
            raise ValueError(
                "a dense head needs the same number of priors at a place of every level, but the prior generator has "
                f"{self.prior_generator.num_base_priors}"
            )
        return counts.pop()


def centerness(to_low: Tensor, to_high: Tensor) -> Tensor:
    """Centre-ness of points in their boxes (FCOS, equation 3): 1 at the centre, 0 at a side.

    Args:
        to_low, to_high: (N, 2) distances to left and top, and to right and bottom; in any unit.

    Returns:
        (N,) in [0, 1].
    """
    ratio = torch.minimum(to_low, to_high) / torch.maximum(to_low, to_high)
    return ratio.clamp(min=0).prod(-1).sqrt()
