"""GFL: Generalized Focal Loss (https://arxiv.org/abs/2006.04388)."""

from __future__ import annotations

from mmcv.cnn import Scale
from mmengine.structures import InstanceData
from torch import Tensor

from densehead.models.heads.anchor import AnchorHead
from densehead.models.heads.defaults import DISTANCE_CODER, DISTRIBUTION_FOCAL_LOSS, GROUP_NORM, normal_init
from densehead.models.heads.integral import DistributionBoxes, Integral, ReachWatch
from densehead.registry import MODELS
from densehead.structures import Assignment, Predictions, Priors, Targets
from densehead.typing import ConfigDict, InitConfig, LevelMaps, OptConfig

NORMAL_INIT = normal_init("gfl_cls")


@MODELS.register_module()
class GFLHead(DistributionBoxes, AnchorHead):
    """The head of GFL: class scores that say how good the box is, and sides as distributions.

    With ``loss_cls=dict(type='QualityFocalLoss')`` the score of a positive learns the IoU of its box (equation 2).
    Each side is a distribution over ``reg_max + 1`` distances, whose expectation is the side (equation 3) and which
    ``loss_dfl`` sharpens around the truth (equation 6).

    Args:
        num_classes, in_channels: see :class:`~densehead.models.heads.base.DenseHead`.
        stacked_convs, conv_cfg, norm_cfg: see :class:`AnchorHead`.
        loss_dfl: config of the loss.
        bbox_coder: config of the coder, of distances from a point.
        reg_max: the last bin, in strides; sides farther away are trained to end there, of which one warning tells.
        init_cfg: initialisation of the weights.
        kwargs: see :class:`AnchorHead`.

    Raises:
        ValueError: ``reg_max`` below 1.
    """

    map_names = ("cls_logits", "box_logits")

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        stacked_convs: int = 4,
        conv_cfg: OptConfig = None,
        norm_cfg: OptConfig = GROUP_NORM,
        loss_dfl: ConfigDict = DISTRIBUTION_FOCAL_LOSS,
        bbox_coder: ConfigDict = DISTANCE_CODER,
        reg_max: int = 16,
        init_cfg: InitConfig = NORMAL_INIT,
        **kwargs,
    ) -> None:
        self.check_reg_max(reg_max)
        self.reg_max = reg_max
        super().__init__(
            num_classes,
            in_channels,
            stacked_convs=stacked_convs,
            conv_cfg=conv_cfg,
            norm_cfg=norm_cfg,
            bbox_coder=bbox_coder,
            init_cfg=init_cfg,
            **kwargs,
        )
        self.integral = Integral(reg_max)
        self.reach = ReachWatch(reg_max)
        self.loss_dfl = MODELS.build(loss_dfl)

    def forward_single(self, x: Tensor, scale: Scale) -> tuple[Tensor, Tensor]:
        """Return scores (B, A * C, h, w) before the sigmoid, and logits (B, A * 4 * (reg_max + 1), h, w) of the
        distances' distributions, of one level.
        """
        cls_feat, reg_feat = self.run_towers(x)
        return self.gfl_cls(cls_feat), scale(self.gfl_reg(reg_feat)).float()

    def loss_by_feat(
        self,
        cls_scores: LevelMaps,
        bbox_preds: LevelMaps,
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData | None] | None = None,
    ) -> dict[str, Tensor]:
        """Return ``loss_cls``, ``loss_bbox`` and ``loss_dfl`` of the maps that ``forward`` put out.

        Args:
            cls_scores: (B, A * C, h, w) a level, before the sigmoid.
            bbox_preds: (B, A * 4 * (reg_max + 1), h, w) a level, before the softmax.
            batch_gt_instances: of each image ``bboxes`` (n, 4) xyxy in pixels and ``labels`` (n,).
            batch_img_metas: of each image ``pad_shape`` and ``img_shape``.
            batch_gt_instances_ignore: of each image ``bboxes`` of the regions to ignore, or None.
        """
        maps = (cls_scores, bbox_preds)
        return self._losses_from_maps(maps, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore)

    def losses(
        self, predictions: Predictions, priors: Priors, targets: Targets, assignment: Assignment
    ) -> dict[str, Tensor]:
        """Return the losses of a batch (equation 8); an image without positives counts as one in the normaliser."""
        positives = assignment.positives(targets)
        num_pos = self._mean_over_ranks(assignment.num_pos.clamp(min=1).sum(), 0.0)
        box_losses, iou = self.box_losses(predictions, priors, targets, positives)
        self.last_quality = iou
        return dict(loss_cls=self._classification_loss(predictions, assignment, positives, num_pos, iou), **box_losses)

    def _init_predictors(self) -> None:
        self.gfl_cls = self._predictor(self.cls_out_channels)
        self.gfl_reg = self._predictor(4 * (self.reg_max + 1))
