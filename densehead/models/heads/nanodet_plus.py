"""NanoDet-Plus (Lyu 2021, https://zhuanlan.zhihu.com/p/449912627, https://github.com/RangiLyu/nanodet)."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from mmcv.cnn import ConvModule
from mmengine.structures import InstanceData
from torch import Tensor, nn

from densehead.models.heads.base import DenseHead
from densehead.models.heads.defaults import DISTANCE_CODER, DISTRIBUTION_FOCAL_LOSS, LEAKY_RELU, normal_init
from densehead.models.heads.finite import check_losses
from densehead.models.heads.integral import DistributionBoxes, Integral, ReachWatch
from densehead.models.heads.towers import CompileOption, Tower, run_tower
from densehead.models.layers import DepthwiseConvModule, scoped
from densehead.registry import MODELS
from densehead.structures import Assignment, DetDataSample, LevelTensor, Positives, Predictions, Priors, Targets
from densehead.typing import ConfigDict, InitConfig, LevelMaps, OptConfig

NORMAL_INIT = normal_init("gfl_cls")
QUALITY_FOCAL_LOSS = dict(type="QualityFocalLoss", use_sigmoid=True, beta=2.0, loss_weight=1.0)
GIOU_LOSS = dict(type="GIoULoss", loss_weight=2.0)
CONV_TYPES = {"DWConv": DepthwiseConvModule, "Conv": ConvModule}


@MODELS.register_module()
class NanoDetPlusHead(DistributionBoxes, DenseHead):
    """The head of NanoDet-Plus: a light tower for each level, and one convolution for scores and sides together.

    It predicts what GFL's does. Its points are the upper left corners of their cells, not the centres.

    Args:
        num_classes, in_channels, feat_channels: see :class:`~densehead.models.heads.base.DenseHead`.
        stacked_convs: convolutions in each tower.
        kernel_size: their kernel.
        strides: distance of neighbouring points of each level, pixels.
        reg_max: the last bin of the distances, in strides; sides farther away are trained to end there, of which one
            warning tells.
        conv_type: ``'DWConv'``, depthwise separable convolutions, or ``'Conv'``, plain ones.
        norm_cfg, act_cfg: norm and activation in the towers.
        loss_cls, loss_dfl, loss_bbox: configs of the losses.
        train_cfg, test_cfg: see :class:`~densehead.models.heads.base.DenseHead`.
        init_cfg: initialisation of the weights.
        compile_towers: see :class:`~densehead.models.heads.anchor.AnchorHead`.

    Raises:
        ValueError: ``reg_max`` below 1, another ``conv_type``, an even ``kernel_size``.
    """

    map_names = ("cls_logits", "box_logits")

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        feat_channels: int = 96,
        stacked_convs: int = 2,
        kernel_size: int = 5,
        strides: Sequence[int] = (8, 16, 32, 64),
        reg_max: int = 7,
        conv_type: str = "DWConv",
        norm_cfg: OptConfig = dict(type="BN"),  # noqa: B006 (only read)
        act_cfg: OptConfig = LEAKY_RELU,
        loss_cls: ConfigDict = QUALITY_FOCAL_LOSS,
        loss_dfl: ConfigDict = DISTRIBUTION_FOCAL_LOSS,
        loss_bbox: ConfigDict = GIOU_LOSS,
        train_cfg: OptConfig = None,
        test_cfg: OptConfig = None,
        init_cfg: InitConfig = NORMAL_INIT,
        compile_towers: CompileOption = False,
    ) -> None:
        self.check_reg_max(reg_max)
        if conv_type not in CONV_TYPES:
            raise ValueError(f"bbox_head.conv_type must be one of {', '.join(CONV_TYPES)}, but got {conv_type!r}")
        if kernel_size % 2 == 0:
            raise ValueError(f"bbox_head.kernel_size must be odd, so that maps keep their size, but got {kernel_size}")
        points = dict(type="MlvlPointGenerator", strides=strides, offset=0)
        super().__init__(
            num_classes,
            in_channels,
            feat_channels,
            points,
            DISTANCE_CODER,
            loss_cls,
            loss_bbox,
            train_cfg,
            test_cfg,
            init_cfg,
        )
        self.strides = strides
        self.reg_max = reg_max
        self.loss_dfl = MODELS.build(loss_dfl)
        self.distribution_project = Integral(reg_max)
        self.reach = ReachWatch(reg_max)

        inputs = [in_channels] + [feat_channels] * (stacked_convs - 1) if stacked_convs else []
        size = {"kernel_size": kernel_size, "padding": kernel_size // 2}
        layer = {"norm_cfg": scoped(norm_cfg), "act_cfg": scoped(act_cfg)}
        self.cls_convs = nn.ModuleList(
            Tower(
                (CONV_TYPES[conv_type](channels, feat_channels, **size, **layer) for channels in inputs), compile_towers
            )
            for _ in strides
        )
        channels, outputs = (feat_channels if inputs else in_channels), self.cls_out_channels + 4 * (reg_max + 1)
        self.gfl_cls = nn.ModuleList(nn.Conv2d(channels, outputs, 1) for _ in strides)

    @property
    def integral(self) -> Integral:
        """What reads distances from distributions; checkpoints know it as ``distribution_project``."""
        return self.distribution_project

    def forward(self, x: Sequence[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
        """Return the maps of all levels.

        Args:
            x: feature maps, one (B, in_channels, h, w) a level.

        Returns:
            Scores (B, C, h, w) before the sigmoid, and logits (B, 4 * (reg_max + 1), h, w) of the distances'
            distributions.
        """
        levels = zip(self.gfl_cls, self.cls_convs, x, strict=True)
        maps = [predict(run_tower(tower, level)) for predict, tower, level in levels]
        count = self.cls_out_channels
        return [level[:, :count] for level in maps], [level[:, count:] for level in maps]

    def loss(
        self,
        x: Sequence[Tensor],
        batch_data_samples: list[DetDataSample],
        aux_maps: tuple[LevelMaps, LevelMaps] | None = None,
    ) -> dict[str, Tensor]:
        """Return the losses of a batch, see the base class.

        Args:
            x: feature maps, one (B, in_channels, h, w) a level.
            batch_data_samples: of the images.
            aux_maps: see :meth:`loss_by_feat`.
        """
        return self._loss_of(self(x), batch_data_samples, aux_maps=aux_maps)

    def loss_by_feat(
        self,
        cls_scores: LevelMaps,
        bbox_preds: LevelMaps,
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData | None] | None = None,
        aux_maps: tuple[LevelMaps, LevelMaps] | None = None,
    ) -> dict[str, Tensor]:
        """Return ``loss_cls``, ``loss_bbox`` and ``loss_dfl`` of the maps that ``forward`` put out.

        Args:
            cls_scores: (B, C, h, w) a level, before the sigmoid.
            bbox_preds: (B, 4 * (reg_max + 1), h, w) a level, before the softmax.
            batch_gt_instances: of each image ``bboxes`` (n, 4) xyxy in pixels and ``labels`` (n,).
            batch_img_metas: of each image.
            batch_gt_instances_ignore: of each image ``bboxes`` of the regions to ignore, or None.
            aux_maps: the same two maps of an auxiliary head. Where they are given, it is they that the assigner looks
                at, and their losses on the same assignment are ``aux_loss_cls``, ``aux_loss_bbox``, ``aux_loss_dfl``.
        """
        maps, truth = (cls_scores, bbox_preds), (batch_gt_instances, batch_img_metas, batch_gt_instances_ignore)
        if aux_maps is None:
            return self._losses_from_maps(maps, *truth)
        aux = self._read(aux_maps, self._priors(aux_maps[0]))
        losses = self._losses_from_maps(maps, *truth, assign_by=aux)
        quality = self.last_quality
        found = self.losses(aux, self.last_priors, self.last_targets, self.last_assignment)
        self.last_quality = quality
        aux_losses = {f"aux_{name}": value for name, value in found.items()}
        self._check_auxiliary(aux_losses, {f"aux_{name}": value for name, value in aux.items()}, batch_img_metas)
        return losses | aux_losses

    def losses(
        self, predictions: Predictions, priors: Priors, targets: Targets, assignment: Assignment
    ) -> dict[str, Tensor]:
        """Return the losses of a batch: those of GFL, with the qualities that the assigner saw."""
        positives = assignment.positives(targets)
        num_pos = self._mean_over_ranks(assignment.is_positive.sum(), 1.0)
        quality = self._seen_quality(assignment, positives)
        box_losses, iou = self.box_losses(predictions, priors, targets, positives)
        quality = self.last_quality = iou if quality is None else quality
        loss_cls = self._classification_loss(predictions, assignment, positives, num_pos, quality)
        return dict(loss_cls=loss_cls, **box_losses)

    def default_assigner(self) -> ConfigDict:
        """Return the rule of NanoDet-Plus, in which the distance of centres, which RTMDet added, costs nothing."""
        return dict(type="DynamicSoftLabelAssigner", topk=13, iou_weight=3.0, soft_center_radius=math.inf)

    def _seen_quality(self, assignment: Assignment, positives: Positives) -> Tensor | None:
        """Return (N,) the IoUs of the boxes that the assigner looked at, which may be the auxiliary head's."""
        if not self.assigner.needs_predictions or assignment.overlaps is None:
            return None
        return assignment.overlaps[positives.image_index, positives.prior_index]

    def _check_auxiliary(self, losses: dict[str, Tensor], maps: Mapping[str, LevelTensor], metas: list[dict]) -> None:
        """Check the auxiliary losses as the others were checked, and join the reports."""
        report = check_losses(losses, maps, self.last_targets, self.last_priors, metas, keep=self.keeps_report)
        if report is not None and self.last_report is not None:
            self.last_report = self.last_report.joined(report)
