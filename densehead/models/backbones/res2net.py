"""Res2Net (Gao et al. 2019, Res2Net: A New Multi-scale Backbone Architecture, https://arxiv.org/abs/1904.01169)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from densehead.models.backbones.blocks import ResidualBlock, spatial_cfg
from densehead.models.backbones.resnet import BLOCKS, ResNet
from densehead.models.layers import build_conv, build_norm
from densehead.registry import MODELS
from densehead.typing import ConfigDict, InitConfig, OptConfig


class Bottle2neck(ResidualBlock):
    """A bottleneck whose middle is a chain of small 3x3 convolutions (figure 2b).

    The channels are split into ``scales`` parts. Each part but the last goes through a convolution, after the result of
    the part before was added to it. The first block of a stage, which has a shortcut of its own, adds nothing, and
    pools the last part to the stride.

    Args:
        scales: number of parts.
        base_width: channels of a part where ``planes`` is ``base_channels``.
        base_channels: width of the first stage.
        style: must be ``'pytorch'``: the stride is in the 3x3 convolutions.
        zero_init: without use, as in mmdetection.
    """

    expansion = 4

    def __init__(
        self,
        inplanes: int,
        planes: int,
        *,
        scales: int,
        base_width: int,
        base_channels: int,
        norm_cfg: ConfigDict,
        stride: int = 1,
        dilation: int = 1,
        style: str = "pytorch",
        conv_cfg: OptConfig = None,
        dcn: OptConfig = None,
        downsample: nn.Module | None = None,
        with_cp: bool = False,
        zero_init: bool = False,
    ) -> None:
        width = int(planes * base_width / base_channels)
        outplanes = planes * self.expansion
        first = build_conv(conv_cfg, inplanes, width * scales, 1, bias=False)
        super().__init__([first], norm_cfg=norm_cfg, with_cp=with_cp)
        # in mmdetection's order, which optimizers number the parameters by
        self.conv3 = build_conv(conv_cfg, width * scales, outplanes, 1, bias=False)
        self.last_norm, norm = build_norm(norm_cfg, outplanes, 3)
        self.add_module(self.last_norm, norm)
        self.downsample = downsample
        if downsample is not None and stride != 1:
            self.pool = nn.AvgPool2d(3, stride=stride, padding=1)
        cfg = spatial_cfg(conv_cfg, dcn, stride)
        size = {"stride": stride, "padding": dilation, "dilation": dilation, "bias": False}
        self.convs = nn.ModuleList(build_conv(cfg, width, width, 3, **size) for _ in range(scales - 1))
        self.bns = nn.ModuleList(build_norm(norm_cfg, width)[1] for _ in range(scales - 1))
        self.width = width

    def _sum(self, x: Tensor) -> Tensor:
        _, first_norm = self.layer_names[0]
        splits = self.relu(getattr(self, first_norm)(self.conv1(x))).split(self.width, dim=1)
        parts: list[Tensor] = []
        for split, conv, norm in zip(splits, self.convs, self.bns, strict=False):
            part = parts[-1] + split if parts and self.downsample is None else split
            parts.append(self.relu(norm(conv(part.contiguous()))))  # compiled deformable convolution takes no views
        parts.append(self.pool(splits[-1]) if hasattr(self, "pool") else splits[-1])
        branch = getattr(self, self.last_norm)(self.conv3(torch.cat(parts, dim=1)))
        branch += x if self.downsample is None else self.downsample(x)
        return branch


@MODELS.register_module()
class Res2Net(ResNet):
    """A ResNet of version v1d whose bottlenecks work at several scales; keys and parameter names are mmdetection's.

    v1d: a stem of three 3x3 convolutions, the stride in the 3x3 convolutions, shortcuts that pool. Pretrained weights
    are ``open-mmlab://res2net101_v1d_26w_4s``.

    Args:
        scales: parts that a block splits its channels into.
        base_width: channels of a part in the first stage.
        style, deep_stem, avg_down: accepted for mmdetection's configs, which have no other values than these.
        pretrained, init_cfg: see :class:`ResNet`.
        kwargs: see :class:`ResNet`; ``depth`` 50, 101 or 152. ``zero_init_residual`` has no effect, as in mmdetection.

    Raises:
        ValueError: another depth, less than two scales, another value of the keys that say v1d.
    """

    blocks = {depth: (Bottle2neck, counts) for depth, (_, counts) in BLOCKS.items() if depth >= 50}

    def __init__(
        self,
        scales: int = 4,
        base_width: int = 26,
        style: str = "pytorch",
        deep_stem: bool = True,
        avg_down: bool = True,
        pretrained: str | None = None,
        init_cfg: InitConfig = None,
        **kwargs,
    ) -> None:
        if scales < 2:
            raise ValueError(f"backbone.scales must be at least 2 (with 1 it is a ResNet), but got {scales}")
        v1d = {"style": "pytorch", "deep_stem": True, "avg_down": True}
        for key, given in (("style", style), ("deep_stem", deep_stem), ("avg_down", avg_down)):
            if given != v1d[key]:
                raise ValueError(
                    f"backbone.{key} of a Res2Net is always {v1d[key]!r} (mmdetection ignores the key), but got "
                    f"{given!r}: leave it out"
                )
        self.scales = scales
        self.base_width = base_width
        super().__init__(**v1d, pretrained=pretrained, init_cfg=init_cfg, **kwargs)

    def _block_options(self, planes: int, base_channels: int) -> dict[str, int]:
        return {"scales": self.scales, "base_width": self.base_width, "base_channels": base_channels}
