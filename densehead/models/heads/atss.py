"""ATSS: Bridging the Gap Between Anchor-based and Anchor-free Detection (https://arxiv.org/abs/1912.02424)."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import Scale
from mmengine.structures import InstanceData
from torch import Tensor, nn

from densehead.models.heads.base import DenseHead, centerness
from densehead.models.heads.defaults import (
    BINARY_CROSS_ENTROPY,
    DELTA_CODER,
    GROUP_NORM,
    RETINA_ANCHORS,
    SMOOTH_L1_LOSS,
    normal_init,
)
from densehead.models.heads.towers import conv_tower, run_tower
from densehead.registry import MODELS
from densehead.structures import Assignment, Predictions, Priors, Targets
from densehead.typing import ConfigDict, InitConfig, LevelMaps, OptConfig

NORMAL_INIT = normal_init("atss_cls")


@MODELS.register_module()
class ATSSHead(DenseHead):
    """The head of ATSS: that of FCOS on anchors, trained on adaptively selected samples.

    Args:
        num_classes, in_channels: see :class:`DenseHead`.
        pred_kernel_size: kernel of the three predicting convolutions.
        stacked_convs: convolutions in each tower.
        conv_cfg, norm_cfg: kinds of convolution and norm in the towers.
        reg_decoded_bbox: must be True: the box loss compares boxes.
        loss_centerness: config of the loss.
        init_cfg: initialisation of the weights.
        feat_channels: channels of the towers.
        anchor_generator, bbox_coder, loss_cls, loss_bbox: configs.
        train_cfg: ``assigner``; ``allowed_border``, how far (pixels) anchors may reach beyond the image and still take
            part, negative for any distance; ``pos_weight``, weight of a positive's classification loss where above 0.
        test_cfg: see :class:`DenseHead`.

    Raises:
        ValueError: ``reg_decoded_bbox=False``.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        pred_kernel_size: int = 3,
        stacked_convs: int = 4,
        conv_cfg: OptConfig = None,
        norm_cfg: OptConfig = GROUP_NORM,
        reg_decoded_bbox: bool = True,
        loss_centerness: ConfigDict = BINARY_CROSS_ENTROPY,
        init_cfg: InitConfig = NORMAL_INIT,
        feat_channels: int = 256,
        anchor_generator: ConfigDict = RETINA_ANCHORS,
        bbox_coder: ConfigDict = DELTA_CODER,
        loss_cls: ConfigDict = BINARY_CROSS_ENTROPY,
        loss_bbox: ConfigDict = SMOOTH_L1_LOSS,
        train_cfg: OptConfig = None,
        test_cfg: OptConfig = None,
    ) -> None:
        if not reg_decoded_bbox:
            raise ValueError(
                "bbox_head.reg_decoded_bbox must be True for this head: its box loss and its centre-ness compare "
                "boxes in pixels"
            )
        super().__init__(
            num_classes,
            in_channels,
            feat_channels,
            anchor_generator,
            bbox_coder,
            loss_cls,
            loss_bbox,
            train_cfg,
            test_cfg,
            init_cfg,
        )
        self.pred_kernel_size = pred_kernel_size
        self.stacked_convs = stacked_convs
        self.conv_cfg = conv_cfg
        self.norm_cfg = norm_cfg
        self.loss_centerness = MODELS.build(loss_centerness)
        self._init_layers()

    def forward(self, x: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Return the maps of all levels.

        Args:
            x: feature maps, one (B, in_channels, h, w) a level.

        Returns:
            Scores (B, A * C, h, w) before the sigmoid, deltas (B, A * 4, h, w), centre-ness (B, A, h, w) before the
            sigmoid.
        """
        maps = [self.forward_single(feature, scale) for feature, scale in zip(x, self.scales, strict=True)]
        return tuple(map(list, zip(*maps, strict=True)))

    def forward_single(self, x: Tensor, scale: Scale) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores, deltas and centre-ness of one level."""
        cls_feat, reg_feat = run_tower(self.cls_convs, x), run_tower(self.reg_convs, x)
        return self.atss_cls(cls_feat), scale(self.atss_reg(reg_feat)).float(), self.atss_centerness(reg_feat)

    def loss_by_feat(
        self,
        cls_scores: LevelMaps,
        bbox_preds: LevelMaps,
        centernesses: LevelMaps,
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData | None] | None = None,
    ) -> dict[str, Tensor]:
        """Return ``loss_cls``, ``loss_bbox`` and ``loss_centerness`` of the maps that ``forward`` put out.

        Args:
            cls_scores: (B, A * C, h, w) a level, before the sigmoid.
            bbox_preds: (B, A * 4, h, w) a level.
            centernesses: (B, A, h, w) a level, before the sigmoid.
            batch_gt_instances: of each image ``bboxes`` (n, 4) xyxy in pixels and ``labels`` (n,).
            batch_img_metas: of each image ``pad_shape`` and ``img_shape``.
            batch_gt_instances_ignore: of each image ``bboxes`` of the regions to ignore, or None.
        """
        maps = (cls_scores, bbox_preds, centernesses)
        return self._losses_from_maps(maps, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore)

    def losses(
        self, predictions: Predictions, priors: Priors, targets: Targets, assignment: Assignment
    ) -> dict[str, Tensor]:
        """Return the losses of a batch: those of FCOS; an image without positives counts as one in the normaliser."""
        positives = assignment.positives(targets)
        num_pos = self._mean_over_ranks(assignment.num_pos.clamp(min=1).sum(), 0.0)
        points = priors.points[positives.prior_index]
        quality = centerness(points - positives.boxes[:, :2], positives.boxes[:, 2:] - points)
        pred_boxes = self.boxes_at(predictions, priors, positives.image_index, positives.prior_index)
        return dict(
            loss_cls=self._classification_loss(predictions, assignment, positives, num_pos),
            loss_bbox=self.loss_bbox(
                pred_boxes, positives.boxes, weight=quality, avg_factor=self._mean_over_ranks(quality.sum(), 1.0)
            ),
            loss_centerness=self.loss_centerness(
                predictions.gather("quality_logits", positives).squeeze(-1), quality, avg_factor=num_pos
            ),
        )

    def boxes_at(self, predictions: Predictions, priors: Priors, image_index: Tensor, prior_index: Tensor) -> Tensor:
        """See the base class."""
        deltas = predictions["box_deltas"].at(image_index, prior_index).float()
        return self.bbox_coder.decode(priors.boxes[prior_index], deltas)

    def default_assigner(self) -> ConfigDict:
        """Return the rule of the paper: 9 candidates a level."""
        return dict(type="ATSSAssigner", topk=9)

    def _training_priors(self, maps: LevelMaps, metas: list[dict]) -> Priors:
        """Leave out, image by image, the anchors that begin in the padding or reach too far out of the image."""
        sizes = [level.shape[-2:] for level in maps]
        ranges = self.prior_generator.valid_ranges(
            sizes,
            [meta.get("pad_shape", meta["img_shape"])[:2] for meta in metas],
            maps[0].device,
            [meta["img_shape"][:2] for meta in metas],
            self.train_cfg.get("allowed_border", -1),
        )
        return self._priors(maps).restricted(ranges)

    def _init_layers(self) -> None:
        self.cls_convs, self.reg_convs = (
            conv_tower(
                self.stacked_convs, self.in_channels, self.feat_channels, conv_cfg=self.conv_cfg, norm_cfg=self.norm_cfg
            )
            for _ in range(2)
        )
        channels = self.feat_channels if self.stacked_convs else self.in_channels

        def predictor(count: int) -> nn.Conv2d:
            size = self.pred_kernel_size
            return nn.Conv2d(channels, self.num_base_priors * count, size, padding=size // 2)

        self.atss_cls = predictor(self.cls_out_channels)
        self.atss_reg = predictor(4)
        self.atss_centerness = predictor(1)
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.prior_generator.strides)
