"""ATSS: Bridging the Gap Between Anchor-based and Anchor-free Detection (https://arxiv.org/abs/1912.02424)."""

from __future__ import annotations

from mmcv.cnn import Scale
from mmengine.structures import InstanceData
from torch import Tensor

from densehead.models.heads.anchor import AnchorHead
from densehead.models.heads.base import centerness
from densehead.models.heads.defaults import BINARY_CROSS_ENTROPY, normal_init
from densehead.registry import MODELS
from densehead.structures import Assignment, Predictions, Priors, Targets
from densehead.typing import ConfigDict, InitConfig, LevelMaps

NORMAL_INIT = normal_init("atss_cls")


@MODELS.register_module()
class ATSSHead(AnchorHead):
    """The head of ATSS: that of FCOS on anchors, trained on adaptively selected samples.

    Args:
        num_classes, in_channels: see :class:`~densehead.models.heads.base.DenseHead`.
        loss_centerness: config of the loss.
        init_cfg: initialisation of the weights.
        kwargs: see :class:`AnchorHead`.
    """

    quality_name = "centre-ness"
    quality_is_predicted = False

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        *args,
        loss_centerness: ConfigDict = BINARY_CROSS_ENTROPY,
        init_cfg: InitConfig = NORMAL_INIT,
        **kwargs,
    ) -> None:
        super().__init__(num_classes, in_channels, *args, init_cfg=init_cfg, **kwargs)
        self.loss_centerness = MODELS.build(loss_centerness)

    def forward_single(self, x: Tensor, scale: Scale) -> tuple[Tensor, Tensor, Tensor]:
        """Return scores (B, A * C, h, w) before the sigmoid, deltas (B, A * 4, h, w) and centre-ness (B, A, h, w)
        before the sigmoid, of one level.
        """
        cls_feat, reg_feat = self.run_towers(x)
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
        quality = self.last_quality = centerness(points - positives.boxes[:, :2], positives.boxes[:, 2:] - points)
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

    def _init_predictors(self) -> None:
        self.atss_cls = self._predictor(self.cls_out_channels)
        self.atss_reg = self._predictor(4)
        self.atss_centerness = self._predictor(1)
