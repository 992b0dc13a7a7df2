"""FCOS: Fully Convolutional One-Stage Object Detection (https://arxiv.org/abs/1904.01355)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.cnn import Scale
from mmengine.structures import InstanceData
from torch import Tensor, nn

from densehead.models.heads.anchor_free import NORMAL_INIT, AnchorFreeHead
from densehead.models.heads.base import centerness
from densehead.models.heads.defaults import BINARY_CROSS_ENTROPY, FOCAL_LOSS, GROUP_NORM, IOU_LOSS
from densehead.models.heads.towers import NormedConv2d
from densehead.registry import MODELS
from densehead.structures import Assignment, Predictions, Priors, Targets
from densehead.typing import ConfigDict, InitConfig, LevelMaps, OptConfig

INF = 1e8


@MODELS.register_module()
class FCOSHead(AnchorFreeHead):
    """The head of FCOS: classes, distances to the four sides, and centre-ness at every point.

    The switches ``norm_on_bbox``, ``centerness_on_reg`` and ``center_sampling`` are those of the journal version
    (https://arxiv.org/abs/2006.09214, section 3.3), which is one to two points of AP better.

    Args:
        num_classes, in_channels: see :class:`~densehead.models.heads.base.DenseHead`.
        regress_ranges, center_sampling, center_sample_radius: of the head's own assigner, see
            :class:`~densehead.models.assigners.FCOSAssigner`; unused where ``train_cfg.assigner`` names another.
        norm_on_bbox: whether distances are predicted in strides and through a ReLU, not in pixels through ``exp``.
        centerness_on_reg: whether centre-ness comes from the regression tower.
        loss_cls, loss_bbox, loss_centerness: configs of the losses.
        norm_cfg: norm in the towers.
        cls_predictor_cfg: keys of a :class:`~densehead.models.heads.towers.NormedConv2d` that predicts the classes;
            a plain convolution if None.
        init_cfg: initialisation of the weights.
        kwargs: see :class:`AnchorFreeHead`.
    """

    quality_name = "centre-ness"
    quality_is_predicted = False

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        regress_ranges: Sequence[tuple[float, float]] = ((-1, 64), (64, 128), (128, 256), (256, 512), (512, INF)),
        center_sampling: bool = False,
        center_sample_radius: float = 1.5,
        norm_on_bbox: bool = False,
        centerness_on_reg: bool = False,
        loss_cls: ConfigDict = FOCAL_LOSS,
        loss_bbox: ConfigDict = IOU_LOSS,
        loss_centerness: ConfigDict = BINARY_CROSS_ENTROPY,
        norm_cfg: OptConfig = GROUP_NORM,
        cls_predictor_cfg: OptConfig = None,
        init_cfg: InitConfig = NORMAL_INIT,
        **kwargs,
    ) -> None:
        self.regress_ranges = regress_ranges
        self.center_sampling = center_sampling
        self.center_sample_radius = center_sample_radius
        self.norm_on_bbox = norm_on_bbox
        self.centerness_on_reg = centerness_on_reg
        self.cls_predictor_cfg = cls_predictor_cfg
        super().__init__(
            num_classes,
            in_channels,
            loss_cls=loss_cls,
            loss_bbox=loss_bbox,
            norm_cfg=norm_cfg,
            init_cfg=init_cfg,
            **kwargs,
        )
        self.loss_centerness = MODELS.build(loss_centerness)

    def forward(self, x: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Return the maps of all levels.

        Args:
            x: feature maps, one (B, in_channels, h, w) a level.

        Returns:
            Scores (B, C, h, w) before the sigmoid; distances (B, 4, h, w), in pixels, but in strides while training
            with ``norm_on_bbox``; centre-ness (B, 1, h, w) before the sigmoid.
        """
        levels = zip(x, self.scales, self.prior_generator.strides, strict=True)
        maps = [self.forward_single(feature, scale, stride[0]) for feature, scale, stride in levels]
        return tuple(map(list, zip(*maps, strict=True)))

    def forward_single(self, x: Tensor, scale: Scale, stride: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores, distances and centre-ness of one level."""
        cls_score, bbox_pred, cls_feat, reg_feat = super().forward_single(x)
        quality = self.conv_centerness(reg_feat if self.centerness_on_reg else cls_feat)
        bbox_pred = scale(bbox_pred).float()  # exp of a half overflows at 11
        if not self.norm_on_bbox:
            return cls_score, bbox_pred.exp(), quality
        bbox_pred = bbox_pred.clamp(min=0)
        return cls_score, bbox_pred if self.training else bbox_pred * stride, quality

    def loss_by_feat(
        self,
        cls_scores: LevelMaps,
        bbox_preds: LevelMaps,
        centernesses: LevelMaps,
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData | None] | None = None,
    ) -> dict[str, Tensor]:
        """Return ``loss_cls``, ``loss_bbox`` and ``loss_centerness``; ``centernesses`` are (B, 1, h, w) a level."""
        maps = (cls_scores, bbox_preds, centernesses)
        return self._losses_from_maps(maps, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore)

    def losses(
        self, predictions: Predictions, priors: Priors, targets: Targets, assignment: Assignment
    ) -> dict[str, Tensor]:
        """Return the losses of a batch (FCOS, equation 2; boxes weighted by centre-ness, as in the authors' code)."""
        positives = assignment.positives(targets)
        num_pos = self._mean_over_ranks(assignment.num_pos.sum(), 1.0)
        points, unit = priors.points[positives.prior_index], self._unit(priors)[positives.prior_index]
        to_low, to_high = points - positives.boxes[:, :2], positives.boxes[:, 2:] - points
        quality = self.last_quality = centerness(to_low, to_high)
        # the box loss sees boxes in the unit of the maps, which matters to losses that are no ratios
        pred_boxes = self.bbox_coder.decode(points / unit, predictions.gather("box_deltas", positives).float())
        gt_boxes = self.bbox_coder.decode(points / unit, torch.cat([to_low, to_high], -1) / unit)
        return dict(
            loss_cls=self._classification_loss(predictions, assignment, positives, num_pos),
            loss_bbox=self.loss_bbox(
                pred_boxes, gt_boxes, weight=quality, avg_factor=self._mean_over_ranks(quality.sum(), 1e-6)
            ),
            loss_centerness=self.loss_centerness(
                predictions.gather("quality_logits", positives).squeeze(-1), quality, avg_factor=num_pos
            ),
        )

    def boxes_at(self, predictions: Predictions, priors: Priors, image_index: Tensor, prior_index: Tensor) -> Tensor:
        """See the base class."""
        ltrb = predictions["box_deltas"].at(image_index, prior_index).float()
        return self.bbox_coder.decode(priors.points[prior_index], ltrb * self._unit(priors)[prior_index])

    def default_assigner(self) -> ConfigDict:
        """Return FCOS's rule with the head's own keys."""
        return dict(
            type="FCOSAssigner",
            regress_ranges=self.regress_ranges,
            center_sampling=self.center_sampling,
            center_sample_radius=self.center_sample_radius,
        )

    def _unit(self, priors: Priors) -> Tensor:
        """(P, 1) what one of the distance maps is worth in pixels, in the current mode."""
        in_strides = self.norm_on_bbox and self.training
        return (priors.strides if in_strides else torch.ones_like(priors.strides))[:, None]

    def _init_predictors(self, channels: int) -> None:
        super()._init_predictors(channels)
        self.conv_centerness = nn.Conv2d(channels, 1, 3, padding=1)
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.strides)
        if self.cls_predictor_cfg is not None:
            keys = {name: value for name, value in self.cls_predictor_cfg.items() if name != "type"}
            self.conv_cls = NormedConv2d(channels, self.cls_out_channels, 1, padding=0, **keys)
