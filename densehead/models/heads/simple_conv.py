"""The auxiliary head of NanoDet-Plus."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import ConvModule, Scale
from mmengine.model import BaseModule
from torch import Tensor, nn

from densehead.models.heads.defaults import GROUP_NORM, LEAKY_RELU, normal_init
from densehead.models.heads.towers import run_tower
from densehead.models.layers import scoped
from densehead.registry import MODELS
from densehead.typing import InitConfig, LevelMaps, OptConfig

NORMAL_INIT = normal_init("gfl_cls")


@MODELS.register_module()
class SimpleConvHead(BaseModule):
    """Two towers that all levels share, a map from each: nothing but the branches of a head.

    The head that it assists reads its maps and computes its losses
    (:class:`~densehead.models.detectors.NanoDetPlus`).

    Args:
        num_classes, reg_max: those of the head that it assists.
        in_channels: channels of the feature maps.
        feat_channels: channels of the towers.
        stacked_convs: convolutions in each tower.
        strides: of the levels; each has a learned scale.
        conv_cfg, norm_cfg, act_cfg: kinds of convolution, norm and activation in the towers.
        init_cfg: initialisation of the weights.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        feat_channels: int = 256,
        stacked_convs: int = 4,
        strides: Sequence[int] = (8, 16, 32),
        conv_cfg: OptConfig = None,
        norm_cfg: OptConfig = GROUP_NORM,
        act_cfg: OptConfig = LEAKY_RELU,
        reg_max: int = 16,
        init_cfg: InitConfig = NORMAL_INIT,
    ) -> None:
        super().__init__(init_cfg)
        self.num_classes = num_classes
        self.in_channels = in_channels
        self.strides = strides
        self.reg_max = reg_max
        layer = {"conv_cfg": scoped(conv_cfg), "norm_cfg": scoped(norm_cfg), "act_cfg": scoped(act_cfg)}
        inputs = [in_channels] + [feat_channels] * (stacked_convs - 1) if stacked_convs else []
        channels = feat_channels if inputs else in_channels
        self.cls_convs, self.reg_convs = (
            nn.ModuleList(ConvModule(count, feat_channels, 3, padding=1, **layer) for count in inputs) for _ in range(2)
        )
        self.gfl_cls = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.gfl_reg = nn.Conv2d(channels, 4 * (reg_max + 1), 3, padding=1)
        self.scales = nn.ModuleList(Scale(1.0) for _ in strides)

    def forward(self, x: Sequence[Tensor]) -> tuple[LevelMaps, LevelMaps]:
        """Return the maps of all levels.

        Args:
            x: feature maps, one (B, in_channels, h, w) a level.

        Returns:
            Scores (B, C, h, w) before the sigmoid, and logits (B, 4 * (reg_max + 1), h, w) of the distances'
            distributions.
        """
        cls_scores = [self.gfl_cls(run_tower(self.cls_convs, level)) for level in x]
        bbox_preds = [
            scale(self.gfl_reg(run_tower(self.reg_convs, level))).float()
            for scale, level in zip(self.scales, x, strict=True)
        ]
        return cls_scores, bbox_preds
