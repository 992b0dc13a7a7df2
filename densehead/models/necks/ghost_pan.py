"""The path aggregation neck of NanoDet-Plus, of ghost bottlenecks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from densehead.models.layers import DepthwiseConvModule, build_act, build_norm, scoped
from densehead.models.necks.levels import check_channels, upsample
from densehead.registry import MODELS
from densehead.typing import ConfigDict, InitConfig, LevelMaps, OptConfig

LEAKY_RELU = {"type": "LeakyReLU", "negative_slope": 0.1}
BATCH_NORM = {"type": "BN"}


@MODELS.register_module()
class GhostPAN(BaseModule):
    """A top-down and a bottom-up path whose joints are ghost bottlenecks; parameter names are NanoDet-Plus's.

    PAN: Liu et al. 2018, https://arxiv.org/abs/1803.01534. Ghost bottlenecks: Han et al. 2020,
    https://arxiv.org/abs/1911.11907.

    Args:
        in_channels: channels of each map of the backbone, each of half the size of the one before.
        out_channels: channels of every level.
        use_depthwise: whether the convolutions that halve a map are depthwise separable.
        kernel_size: of those, and of the depthwise ones in the shortcuts of the bottlenecks.
        expand: channels inside a bottleneck, over ``out_channels``.
        num_blocks: bottlenecks in each joint.
        use_res: whether a joint adds a 1x1 convolution of its input.
        num_extra_level: 1 for a coarser level on top, 0 for none.
        upsample_cfg: arguments of :func:`torch.nn.functional.interpolate`; to the finer map's size unless it has
            ``scale_factor``.
        norm_cfg: norm after each convolution.
        act_cfg: activation after each norm that has one.
        init_cfg: initialisation.

    Raises:
        ValueError: an odd number of channels, which no ghost module halves; a count out of range; no norm.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        use_depthwise: bool = False,
        kernel_size: int = 5,
        expand: float = 1,
        num_blocks: int = 1,
        use_res: bool = False,
        num_extra_level: int = 0,
        upsample_cfg: ConfigDict = {"mode": "bilinear"},  # noqa: B006 (only read)
        norm_cfg: ConfigDict = BATCH_NORM,
        act_cfg: OptConfig = LEAKY_RELU,
        init_cfg: InitConfig = {"type": "Kaiming", "layer": "Conv2d", "a": 0.1, "nonlinearity": "leaky_relu"},  # noqa: B006
    ) -> None:
        _check(out_channels, int(out_channels * expand), num_blocks, num_extra_level, norm_cfg)
        super().__init__(init_cfg)
        self.in_channels = list(in_channels)
        self.out_channels = out_channels
        self.upsample_cfg = dict(upsample_cfg)
        steps = len(in_channels) - 1
        layer = {"norm_cfg": norm_cfg, "act_cfg": act_cfg}

        def joint() -> GhostBlocks:
            sizes = (2 * out_channels, out_channels, int(out_channels * expand))
            return GhostBlocks(*sizes, kernel_size=kernel_size, num_blocks=num_blocks, use_res=use_res, **layer)

        def halving() -> nn.Module:
            size = {"kernel_size": kernel_size, "stride": 2, "padding": kernel_size // 2}
            if use_depthwise:
                return DepthwiseConvModule(out_channels, out_channels, **size, **layer)
            return _conv(out_channels, out_channels, **size, **layer)

        self.reduce_layers = nn.ModuleList(
            _conv(channels, out_channels, kernel_size=1, **layer) for channels in in_channels
        )
        self.top_down_blocks = nn.ModuleList(joint() for _ in range(steps))
        self.downsamples = nn.ModuleList(halving() for _ in range(steps))
        self.bottom_up_blocks = nn.ModuleList(joint() for _ in range(steps))
        self.extra_lvl_in_conv = nn.ModuleList(halving() for _ in range(num_extra_level))
        self.extra_lvl_out_conv = nn.ModuleList(halving() for _ in range(num_extra_level))

    def forward(self, inputs: LevelMaps) -> tuple[Tensor, ...]:
        """Return the levels, (B, out_channels, h, w) each, from fine to coarse.

        Args:
            inputs: one map per entry of ``in_channels``, from fine to coarse.

        Raises:
            ValueError: the maps are not what ``in_channels`` says.
        """
        check_channels(inputs, self.in_channels)
        reduced = [reduce(level) for reduce, level in zip(self.reduce_layers, inputs, strict=True)]
        coarser = [reduced[-1]]  # from coarse to fine
        for joint, finer in zip(self.top_down_blocks, reduced[-2::-1], strict=True):
            coarser.append(joint(torch.cat([upsample(coarser[-1], finer, self.upsample_cfg), finer], 1)))
        outs = [coarser.pop()]
        for downsample, joint, level in zip(self.downsamples, self.bottom_up_blocks, coarser[::-1], strict=True):
            outs.append(joint(torch.cat([downsample(outs[-1]), level], 1)))
        for of_input, of_output in zip(self.extra_lvl_in_conv, self.extra_lvl_out_conv, strict=True):
            outs.append(of_input(reduced[-1]) + of_output(outs[-1]))
        return tuple(outs)


class GhostBlocks(nn.Module):
    """A chain of ghost bottlenecks, of which the first brings ``in_channels`` down.

    Args:
        in_channels, out_channels, mid_channels: before, after and inside the bottlenecks.
        kernel_size: see :class:`GhostBottleneck`.
        num_blocks: bottlenecks.
        use_res: whether a 1x1 convolution of the input is added.
        norm_cfg, act_cfg: of every convolution.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        mid_channels: int,
        *,
        kernel_size: int,
        num_blocks: int,
        use_res: bool,
        norm_cfg: ConfigDict,
        act_cfg: OptConfig,
    ) -> None:
        super().__init__()
        layer = {"norm_cfg": norm_cfg, "act_cfg": act_cfg}
        self.use_res = use_res
        if use_res:
            # NanoDet has no norm here
            self.reduce_conv = _conv(in_channels, out_channels, kernel_size=1, norm_cfg=None, act_cfg=act_cfg)
        self.blocks = nn.Sequential(
            *(
                GhostBottleneck(
                    out_channels if number else in_channels, mid_channels, out_channels, kernel_size, **layer
                )
                for number in range(num_blocks)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out_channels, h, w) of (B, in_channels, h, w)."""
        out = self.blocks(x)
        return out + self.reduce_conv(x) if self.use_res else out


class GhostBottleneck(nn.Module):
    """Two ghost modules and a shortcut (GhostNet, section 3.2, stride 1).

    Args:
        in_channels, mid_channels, out_channels: before, between and after the two.
        kernel_size: of the shortcut's depthwise convolution, which is there where the channels change.
        norm_cfg, act_cfg: of every convolution; the second module has no activation.
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        kernel_size: int,
        *,
        norm_cfg: ConfigDict,
        act_cfg: OptConfig,
    ) -> None:
        super().__init__()
        self.ghost1 = GhostModule(in_channels, mid_channels, norm_cfg=norm_cfg, act_cfg=act_cfg)
        self.ghost2 = GhostModule(mid_channels, out_channels, norm_cfg=norm_cfg, act_cfg=None)
        self.shortcut = nn.Sequential()
        if in_channels != out_channels:
            self.shortcut = nn.Sequential(
                nn.Conv2d(
                    in_channels, in_channels, kernel_size, padding=kernel_size // 2, groups=in_channels, bias=False
                ),
                build_norm(norm_cfg, in_channels)[1],
                nn.Conv2d(in_channels, out_channels, 1, bias=False),
                build_norm(norm_cfg, out_channels)[1],
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out_channels, h, w) of (B, in_channels, h, w)."""
        return self.ghost2(self.ghost1(x)) + self.shortcut(x)


class GhostModule(nn.Module):
    """Half of the channels by a 1x1 convolution, the other half from them, 3x3 within each (GhostNet, section 3.1).

    Args:
        in_channels, out_channels: before and after; ``out_channels`` is even.
        norm_cfg, act_cfg: after both convolutions.
    """

    def __init__(self, in_channels: int, out_channels: int, *, norm_cfg: ConfigDict, act_cfg: OptConfig) -> None:
        super().__init__()
        half = out_channels // 2
        self.primary_conv = nn.Sequential(
            nn.Conv2d(in_channels, half, 1, bias=False), build_norm(norm_cfg, half)[1], build_act(act_cfg)
        )
        self.cheap_operation = nn.Sequential(
            nn.Conv2d(half, half, 3, padding=1, groups=half, bias=False),
            build_norm(norm_cfg, half)[1],
            build_act(act_cfg),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out_channels, h, w) of (B, in_channels, h, w)."""
        primary = self.primary_conv(x)
        return torch.cat([primary, self.cheap_operation(primary)], 1)


def _conv(in_channels: int, out_channels: int, *, norm_cfg: OptConfig, act_cfg: OptConfig, **size) -> ConvModule:
    return ConvModule(in_channels, out_channels, norm_cfg=scoped(norm_cfg), act_cfg=scoped(act_cfg), **size)


def _check(out_channels: int, mid_channels: int, num_blocks: int, num_extra_level: int, norm_cfg: OptConfig) -> None:
    for key, channels in (("out_channels", out_channels), ("out_channels * neck.expand", mid_channels)):
        if channels < 2 or channels % 2:
            raise ValueError(f"neck.{key} must be even and positive, since ghost modules halve it, but got {channels}")
    if num_blocks < 1:
        raise ValueError(f"neck.num_blocks must be at least 1, but got {num_blocks}")
    if num_extra_level not in (0, 1):
        raise ValueError(f"neck.num_extra_level must be 0 or 1, but got {num_extra_level}")
    if norm_cfg is None:
        raise ValueError("neck.norm_cfg must name a norm, e.g. dict(type='BN'): the convolutions have no bias")
