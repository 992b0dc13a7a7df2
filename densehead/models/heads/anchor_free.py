"""The base of point-based heads: two towers and a box of four distances at every point."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.structures import InstanceData
from torch import Tensor, nn

from densehead.models.heads.base import DenseHead
from densehead.models.heads.defaults import DISTANCE_CODER, FOCAL_LOSS, IOU_LOSS, normal_init
from densehead.models.heads.towers import CompileOption, conv_tower, run_tower
from densehead.registry import MODELS
from densehead.structures import Predictions, Priors
from densehead.typing import ConfigDict, InitConfig, LevelMaps, OptConfig

NORMAL_INIT = normal_init("conv_cls")


@MODELS.register_module()
class AnchorFreeHead(DenseHead):
    """A head whose priors are points: a classification tower, a regression tower, a map from each.

    Args:
        num_classes, in_channels, feat_channels: see :class:`DenseHead`.
        stacked_convs: convolutions in each tower.
        strides: distance of neighbouring points of each level, pixels.
        dcn_on_last_conv: whether the last convolution of each tower is deformable (v2).
        conv_bias: whether the towers' convolutions have a bias; ``'auto'``: where no norm follows.
        loss_cls, loss_bbox, bbox_coder: configs.
        conv_cfg, norm_cfg: kinds of convolution and norm in the towers.
        train_cfg, test_cfg, init_cfg: see :class:`DenseHead`.
        compile_towers: whether the towers are compiled while they train, True or a dict of options of
            :func:`torch.compile`; see :class:`~densehead.models.heads.towers.Tower`.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        feat_channels: int = 256,
        stacked_convs: int = 4,
        strides: Sequence[int | tuple[int, int]] = (4, 8, 16, 32, 64),
        dcn_on_last_conv: bool = False,
        conv_bias: bool | str = "auto",
        loss_cls: ConfigDict = FOCAL_LOSS,
        loss_bbox: ConfigDict = IOU_LOSS,
        bbox_coder: ConfigDict = DISTANCE_CODER,
        conv_cfg: OptConfig = None,
        norm_cfg: OptConfig = None,
        train_cfg: OptConfig = None,
        test_cfg: OptConfig = None,
        init_cfg: InitConfig = NORMAL_INIT,
        compile_towers: CompileOption = False,
    ) -> None:
        if conv_bias != "auto" and not isinstance(conv_bias, bool):
            raise ValueError(f"bbox_head.conv_bias must be True, False or 'auto', but got {conv_bias!r}")
        points = dict(type="MlvlPointGenerator", strides=strides)
        super().__init__(
            num_classes,
            in_channels,
            feat_channels,
            points,
            bbox_coder,
            loss_cls,
            loss_bbox,
            train_cfg,
            test_cfg,
            init_cfg,
        )
        self.stacked_convs = stacked_convs
        self.strides = strides
        self.dcn_on_last_conv = dcn_on_last_conv
        self.conv_bias = conv_bias
        self.conv_cfg = conv_cfg
        self.norm_cfg = norm_cfg
        self.compile_towers = compile_towers
        self._init_layers()

    def forward(self, x: Sequence[Tensor]) -> tuple[list[Tensor], ...]:
        """Return the maps of all levels: scores (B, C, h, w) before the sigmoid and distances (B, 4, h, w)."""
        return tuple(map(list, zip(*(self.forward_single(level)[:2] for level in x), strict=True)))

    def forward_single(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Return scores, distances and both towers' features of one level."""
        cls_feat, reg_feat = run_tower(self.cls_convs, x), run_tower(self.reg_convs, x)
        return self.conv_cls(cls_feat), self.conv_reg(reg_feat), cls_feat, reg_feat

    def loss_by_feat(
        self,
        cls_scores: LevelMaps,
        bbox_preds: LevelMaps,
        batch_gt_instances: list[InstanceData],
        batch_img_metas: list[dict],
        batch_gt_instances_ignore: list[InstanceData | None] | None = None,
    ) -> dict[str, Tensor]:
        """Return the losses of the maps that ``forward`` put out, one scalar each.

        Args:
            cls_scores: (B, C, h, w) a level, before the sigmoid.
            bbox_preds: (B, 4, h, w) a level.
            batch_gt_instances: of each image ``bboxes`` (n, 4) xyxy in pixels and ``labels`` (n,).
            batch_img_metas: of each image.
            batch_gt_instances_ignore: of each image ``bboxes`` of the regions to ignore, or None.
        """
        maps = (cls_scores, bbox_preds)
        return self._losses_from_maps(maps, batch_gt_instances, batch_img_metas, batch_gt_instances_ignore)

    def boxes_at(self, predictions: Predictions, priors: Priors, image_index: Tensor, prior_index: Tensor) -> Tensor:
        """See the base class."""
        ltrb = predictions["box_deltas"].at(image_index, prior_index).float()
        return self.bbox_coder.decode(priors.points[prior_index], ltrb)

    def _init_layers(self) -> None:
        self.cls_convs, self.reg_convs = (
            conv_tower(
                self.stacked_convs,
                self.in_channels,
                self.feat_channels,
                conv_cfg=self.conv_cfg,
                norm_cfg=self.norm_cfg,
                bias=self.conv_bias,
                dcn_on_last_conv=self.dcn_on_last_conv,
                compile=self.compile_towers,
            )
            for _ in range(2)
        )
        self._init_predictors(self.feat_channels if self.stacked_convs else self.in_channels)

    def _init_predictors(self, channels: int) -> None:
        """Make the convolutions that put out the maps, from towers of ``channels``."""
        self.conv_cls = nn.Conv2d(channels, self.cls_out_channels, 3, padding=1)
        self.conv_reg = nn.Conv2d(channels, 4, 3, padding=1)
