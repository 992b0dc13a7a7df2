"""VFNet: VarifocalNet, an IoU-aware Dense Object Detector (https://arxiv.org/abs/2008.13367)."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace

import torch
from mmcv.cnn import ConvModule, Scale
from mmengine.logging import print_log
from mmengine.structures import InstanceData
from torch import Tensor, nn

from densehead.models.assigners import ATSSAssigner, BaseAssigner
from densehead.models.foreign import build_prior_generator, fit_box_loss
from densehead.models.heads.anchor_free import AnchorFreeHead
from densehead.models.heads.defaults import FOCAL_LOSS, GROUP_NORM, normal_init
from densehead.models.heads.star import StarConv, star_offsets
from densehead.models.heads.towers import run_tower
from densehead.models.layers import scoped
from densehead.ops import aligned_iou
from densehead.registry import MODELS, TASK_UTILS
from densehead.structures import NEGATIVE, Assignment, DetDataSample, Predictions, Priors, Targets
from densehead.typing import ConfigDict, InitConfig, LevelMaps, OptConfig

INF = 1e8
NORMAL_INIT = normal_init("vfnet_cls")
VARIFOCAL_LOSS = dict(type="VarifocalLoss", use_sigmoid=True, alpha=0.75, gamma=2.0, iou_weighted=True, loss_weight=1.0)
INITIAL_BOX_LOSS = dict(type="GIoULoss", loss_weight=1.5)
REFINED_BOX_LOSS = dict(type="GIoULoss", loss_weight=2.0)
SQUARE_ANCHORS = dict(
    type="AnchorGenerator",
    ratios=[1.0],
    octave_base_scale=8,
    scales_per_octave=1,
    center_offset=0.0,
    strides=[8, 16, 32, 64, 128],
)


@MODELS.register_module()
class VFNetHead(AnchorFreeHead):
    """The head of VFNet: a box of four distances, refined from what its own star of nine points shows, and class scores
    from the same star that learn the IoU of the refined box.

    Args:
        num_classes, in_channels: see :class:`~densehead.models.heads.base.DenseHead`.
        regress_ranges: of each level the smallest and the largest distance (pixels) of FCOS's targets; the largest is
            also the unit of the level's distances with ``bbox_norm_type='reg_denom'``, for the last level twice that of
            the level before.
        center_sampling, center_sample_radius: of FCOS's targets, see
            :class:`~densehead.models.assigners.FCOSAssigner`.
        sync_num_pos: whether the positives that normalise the classification loss are averaged over the ranks.
        gradient_mul: factor of the gradient that the star's places hand back to the initial box.
        bbox_norm_type: unit of the distances: ``'reg_denom'``, or ``'stride'`` of the level.
        loss_cls_fl: config of the classification loss if ``use_vfl`` is False.
        use_vfl: whether ``loss_cls`` classifies. As in mmdetection, priors in an image's padding are negatives then.
        loss_cls, loss_bbox, loss_bbox_refine: configs of the losses; the boxes' are weighted by their IoU.
        norm_cfg: norm in the towers.
        use_atss: whether priors are the centres of ``anchor_generator``'s boxes, assigned by ATSS's rule. Otherwise
            they are the centres of cells, assigned by FCOS's rule, also where ``train_cfg.assigner`` names
            ATSSAssigner, as mmdetection's configs do; any other assigner of ``train_cfg`` counts in both cases.
        reg_decoded_bbox: must be True: the losses compare boxes in pixels.
        anchor_generator: config of the anchors, one at a place; of its strides and ``center_offset`` the points of the
            priors are made.
        init_cfg: initialisation of the weights.
        kwargs: see :class:`AnchorFreeHead`; ``train_cfg.allowed_border``: how far (pixels) anchors may reach beyond the
            image and still be assigned, negative for any distance.

    Raises:
        ValueError: ``reg_decoded_bbox=False``, an unknown ``bbox_norm_type``, or strides, ranges and anchors that do
            not fit each other.
    """

    map_names = ("cls_logits", "initial_deltas", "box_deltas")

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        regress_ranges: Sequence[tuple[float, float]] = ((-1, 64), (64, 128), (128, 256), (256, 512), (512, INF)),
        center_sampling: bool = False,
        center_sample_radius: float = 1.5,
        sync_num_pos: bool = True,
        gradient_mul: float = 0.1,
        bbox_norm_type: str = "reg_denom",
        loss_cls_fl: ConfigDict = FOCAL_LOSS,
        use_vfl: bool = True,
        loss_cls: ConfigDict = VARIFOCAL_LOSS,
        loss_bbox: ConfigDict = INITIAL_BOX_LOSS,
        loss_bbox_refine: ConfigDict = REFINED_BOX_LOSS,
        norm_cfg: OptConfig = GROUP_NORM,
        use_atss: bool = True,
        reg_decoded_bbox: bool = True,
        anchor_generator: ConfigDict = SQUARE_ANCHORS,
        init_cfg: InitConfig = NORMAL_INIT,
        **kwargs,
    ) -> None:
        self.regress_ranges = regress_ranges
        self.center_sampling = center_sampling
        self.center_sample_radius = center_sample_radius
        self.sync_num_pos = sync_num_pos
        self.gradient_mul = gradient_mul
        self.bbox_norm_type = bbox_norm_type
        self.use_vfl = use_vfl
        self.use_atss = use_atss
        self.reg_decoded_bbox = reg_decoded_bbox
        super().__init__(
            num_classes,
            in_channels,
            loss_cls=loss_cls if use_vfl else loss_cls_fl,
            loss_bbox=loss_bbox,
            norm_cfg=norm_cfg,
            init_cfg=init_cfg,
            **kwargs,
        )
        self.loss_bbox_refine = fit_box_loss(MODELS.build(loss_bbox_refine))
        self.atss_prior_generator = build_prior_generator(anchor_generator)
        offset = self.atss_prior_generator.center_offset if use_atss else 0.5
        strides = self.atss_prior_generator.strides
        self.prior_generator = TASK_UTILS.build(dict(type="MlvlPointGenerator", strides=strides, offset=offset))
        self._check()
        self.reg_denoms = [limits[-1] for limits in regress_ranges]
        self.reg_denoms[-1] = self.reg_denoms[-2] * 2

    def forward(self, x: Sequence[Tensor]) -> tuple[list[Tensor], ...]:
        """Return the maps of all levels.

        Args:
            x: feature maps, one (B, in_channels, h, w) a level.

        Returns:
            Scores (B, C, h, w) before the sigmoid; in training mode the initial distances (B, 4, h, w); the refined
            distances (B, 4, h, w); distances in pixels.
        """
        cls_scores, bbox_preds, bbox_preds_refine = self._all_maps(x)
        return (cls_scores, bbox_preds, bbox_preds_refine) if self.training else (cls_scores, bbox_preds_refine)

    def forward_single(
        self, x: Tensor, scale: Scale, scale_refine: Scale, stride: int, reg_denom: float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores, initial and refined distances of one level, in either mode (sections 4.3 to 4.5)."""
        cls_feat, reg_feat = run_tower(self.cls_convs, x), run_tower(self.reg_convs, x)
        unit = reg_denom if self.bbox_norm_type == "reg_denom" else stride
        bbox_pred = scale(self.vfnet_reg(self.vfnet_reg_conv(reg_feat))).float().exp() * unit
        # in float32 also under autocast: a place hundreds of cells away would be off by a quarter of a cell
        offset = self.star_dcn_offset(bbox_pred, self.gradient_mul, stride)
        reg_feat = self.vfnet_reg_refine_dconv(reg_feat, offset).relu()
        factor = scale_refine(self.vfnet_reg_refine(reg_feat)).float().exp()
        cls_feat = self.vfnet_cls_dconv(cls_feat, offset).relu()
        return self.vfnet_cls(cls_feat), bbox_pred, factor * bbox_pred.detach()

    def star_dcn_offset(self, bbox_pred: Tensor, gradient_mul: float, stride: int) -> Tensor:
        """Return the displacements (B, 18, h, w) of the star's taps, see :func:`.star.star_offsets`.

        Args:
            bbox_pred: (B, 4, h, w) distances left, top, right, bottom, pixels.
            gradient_mul: factor of the gradient to ``bbox_pred``.
            stride: pixels between the places of the map.
        """
        ltrb = torch.lerp(bbox_pred.detach(), bbox_pred, gradient_mul) / stride
        # kernels on CPU read out of bounds at NaN; the losses name it, since the distances keep it
        return star_offsets(ltrb.nan_to_num())

    def loss(self, x: Sequence[Tensor], batch_data_samples: list[DetDataSample]) -> dict[str, Tensor]:
        """See the base class."""
        return self._loss_of(self._all_maps(x), batch_data_samples)

    def loss_and_predict(
        self, x: Sequence[Tensor], batch_data_samples: list[DetDataSample], proposal_cfg: OptConfig = None
    ) -> tuple[dict[str, Tensor], list[InstanceData]]:
        """See the base class."""
        maps = self._all_maps(x)
        metas = [sample.metainfo for sample in batch_data_samples]
        losses = self._loss_of(maps, batch_data_samples)
        return losses, self.predict_by_feat(maps[0], maps[2], batch_img_metas=metas, cfg=proposal_cfg)

    def loss_by_feat(
        self,
        cls_scores: LevelMaps,
        bbox_preds: LevelMaps,
        bbox_preds_refine: LevelMaps,
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData | None] | None = None,
    ) -> dict[str, Tensor]:
        """Return ``loss_cls``, ``loss_bbox`` and ``loss_bbox_rf``; ``bbox_preds_refine`` are (B, 4, h, w) a level."""
        maps = (cls_scores, bbox_preds, bbox_preds_refine)
        return self._losses_from_maps(maps, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore)

    def losses(
        self, predictions: Predictions, priors: Priors, targets: Targets, assignment: Assignment
    ) -> dict[str, Tensor]:
        """Return the losses of a batch (section 4.6, equation 3)."""
        positives = assignment.positives(targets)
        points = priors.points[positives.prior_index]
        initial, refined = (
            self.bbox_coder.decode(points, predictions.gather(name, positives).float()) for name in self.map_names[1:]
        )
        loss_bbox, _ = self._box_loss(self.loss_bbox, initial, positives.boxes)
        loss_bbox_refine, iou = self._box_loss(self.loss_bbox_refine, refined, positives.boxes)
        self.last_quality = iou
        num_pos = assignment.is_positive.sum()
        num_pos = self._mean_over_ranks(num_pos, 1.0) if self.sync_num_pos else num_pos.clamp(min=1)
        if self.use_vfl and priors.valid_mask() is not None:
            gt_index = assignment.gt_index.where(priors.valid_mask(), NEGATIVE)
            assignment = replace(assignment, gt_index=gt_index)
        loss_cls = self._classification_loss(predictions, assignment, positives, num_pos, iou)
        return dict(loss_cls=loss_cls, loss_bbox=loss_bbox, loss_bbox_rf=loss_bbox_refine)

    def default_assigner(self) -> ConfigDict:
        """Return the paper's rule, ATSS's with 9 candidates a level, or FCOS's with the head's own keys."""
        if self.use_atss:
            return dict(type="ATSSAssigner", topk=9)
        return dict(
            type="FCOSAssigner",
            regress_ranges=self.regress_ranges,
            center_sampling=self.center_sampling,
            center_sample_radius=self.center_sample_radius,
        )

    def _all_maps(self, x: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        units = self.reg_denoms[: len(self.strides)]
        levels = zip(x, self.scales, self.scales_refine, self.strides, units, strict=True)
        return tuple(map(list, zip(*(self.forward_single(*level) for level in levels), strict=True)))

    def _box_loss(self, loss: nn.Module, boxes: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """Loss of the positives' boxes (N, 4), weighted by their IoU (N,), and that."""
        iou = aligned_iou(boxes.detach(), truth).clamp(min=1e-6)
        return loss(boxes, truth, weight=iou, avg_factor=self._mean_over_ranks(iou.sum(), 1.0)), iou

    def _read(self, maps: Sequence[LevelMaps], priors: Priors) -> Predictions:
        return super()._read((maps[0], maps[1], maps[-1]), priors)  # two in evaluation mode

    def _training_priors(self, maps: LevelMaps, metas: list[dict]) -> Priors:
        """With ATSS the anchors, without those that begin in an image's padding or reach too far out of the image."""
        if not self.use_atss:
            return super()._training_priors(maps, metas)
        return self._inside_images(self.atss_prior_generator, maps, metas)

    def _init_predictors(self, channels: int) -> None:
        self.vfnet_reg_conv = ConvModule(
            channels,
            self.feat_channels,
            3,
            padding=1,
            conv_cfg=scoped(self.conv_cfg),
            norm_cfg=scoped(self.norm_cfg),
            bias=self.conv_bias,
        )
        self.vfnet_reg = nn.Conv2d(self.feat_channels, 4, 3, padding=1)
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.strides)
        self.vfnet_reg_refine_dconv = StarConv(channels, self.feat_channels)
        self.vfnet_reg_refine = nn.Conv2d(self.feat_channels, 4, 3, padding=1)
        self.scales_refine = nn.ModuleList(Scale(1.0) for _ in self.strides)
        self.vfnet_cls_dconv = StarConv(channels, self.feat_channels)
        self.vfnet_cls = nn.Conv2d(self.feat_channels, self.cls_out_channels, 3, padding=1)

    def _build_assigner(self) -> BaseAssigner:
        assigner = super()._build_assigner()
        if self.use_atss or type(assigner) is not ATSSAssigner:
            return assigner
        print_log(
            "bbox_head.use_atss=False: FCOS's rule assigns, not the ATSSAssigner of train_cfg.assigner; set "
            "use_atss=True to have that",
            logger="current",
            level=logging.WARNING,
        )
        return TASK_UTILS.build(self.default_assigner())

    def _check(self) -> None:
        """Raise where keys contradict each other."""
        if not self.reg_decoded_bbox:
            raise ValueError(
                "bbox_head.reg_decoded_bbox must be True for VFNetHead: its losses compare boxes in pixels"
            )
        if self.bbox_norm_type not in ("reg_denom", "stride"):
            raise ValueError(
                f"bbox_head.bbox_norm_type must be 'reg_denom' or 'stride', but got {self.bbox_norm_type!r}"
            )
        anchors = self.atss_prior_generator
        if set(anchors.num_base_priors) != {1}:
            raise ValueError(
                "bbox_head.anchor_generator must make one anchor at a place (one ratio, one scale), but makes "
                f"{anchors.num_base_priors}"
            )
        levels = len(self.strides)
        if levels != anchors.num_levels or len(self.regress_ranges) < max(levels, 2):
            raise ValueError(
                "bbox_head.strides, anchor_generator.strides and regress_ranges must have one entry a level, but got "
                f"{self.strides}, {anchors.strides} and {self.regress_ranges}"
            )
        if any(not isinstance(stride, (int, float)) for stride in self.strides):
            raise ValueError(f"bbox_head.strides of VFNetHead must be numbers, but got {self.strides}")
        if [(stride, stride) for stride in self.strides] != anchors.strides:
            print_log(
                f"bbox_head.strides={list(self.strides)} are not those of bbox_head.anchor_generator, "
                f"{[stride[0] for stride in anchors.strides]}: boxes are not where their features are; set both",
                logger="current",
                level=logging.WARNING,
            )
