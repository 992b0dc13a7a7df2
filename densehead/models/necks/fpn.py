"""Feature pyramid (Lin et al. 2017, Feature Pyramid Networks for Object Detection, https://arxiv.org/abs/1612.03144)."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmcv.cnn import ConvModule
from mmengine.model import BaseModule
from torch import Tensor, nn

from densehead.models.layers import scoped
from densehead.models.necks.levels import check_channels, upsample
from densehead.registry import MODELS
from densehead.typing import ConfigDict, InitConfig, LevelMaps, OptConfig

EXTRA_SOURCES = ("on_input", "on_lateral", "on_output")


@MODELS.register_module()
class FPN(BaseModule):
    """Top-down pyramid, with extra coarse levels on top; keys and parameter names are mmdetection's.

    Args:
        in_channels: channels of each map of the backbone.
        out_channels: channels of every level.
        num_outs: number of levels.
        start_level: first map of the backbone to use.
        end_level: last map of the backbone to use (-1: the last one); no extra levels unless it is the last.
        add_extra_convs: what the first extra level is convolved from: ``'on_input'`` (the backbone's last map; also
            True), ``'on_lateral'`` (the coarsest lateral map), ``'on_output'`` (the coarsest level), each with stride
            2. False: extra levels are every second pixel of the coarsest level.
        relu_before_extra_convs: ReLU before the extra convolutions from the second one on.
        no_norm_on_lateral: leave the norms out of the lateral convolutions.
        conv_cfg: type of the convolutions.
        norm_cfg: norm after each convolution; none if None.
        act_cfg: activation after each convolution; none if None.
        upsample_cfg: arguments of :func:`torch.nn.functional.interpolate`; to the finer map's size unless it has
            ``scale_factor``.
        init_cfg: initialisation.

    Raises:
        ValueError: keys that do not fit each other.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        out_channels: int,
        num_outs: int,
        start_level: int = 0,
        end_level: int = -1,
        add_extra_convs: bool | str = False,
        relu_before_extra_convs: bool = False,
        no_norm_on_lateral: bool = False,
        conv_cfg: OptConfig = None,
        norm_cfg: OptConfig = None,
        act_cfg: OptConfig = None,
        upsample_cfg: ConfigDict = {"mode": "nearest"},  # noqa: B006 (only read)
        init_cfg: InitConfig = {"type": "Xavier", "layer": "Conv2d", "distribution": "uniform"},  # noqa: B006
    ) -> None:
        super().__init__(init_cfg)
        num_ins = len(in_channels)
        last = num_ins - 1 if end_level == -1 else end_level
        if not 0 <= start_level <= last < num_ins:
            raise ValueError(
                f"neck.start_level and neck.end_level must name maps among the {num_ins} of neck.in_channels="
                f"{list(in_channels)}, but got start_level={start_level} and end_level={end_level}"
            )
        self.in_channels = list(in_channels)
        self.out_channels = out_channels
        self.num_outs = num_outs
        self.used = range(start_level, last + 1)
        self.add_extra_convs = _extra_source(add_extra_convs)
        self.relu_before_extra_convs = relu_before_extra_convs
        self.upsample_cfg = dict(upsample_cfg)
        extra = _extra_levels(num_outs, self.used, num_ins)

        layer = {"conv_cfg": scoped(conv_cfg), "act_cfg": act_cfg, "inplace": False}
        lateral_norm = None if no_norm_on_lateral else scoped(norm_cfg)
        self.lateral_convs = nn.ModuleList(
            ConvModule(in_channels[index], out_channels, 1, norm_cfg=lateral_norm, **layer) for index in self.used
        )
        layer |= {"norm_cfg": scoped(norm_cfg), "padding": 1}
        self.fpn_convs = nn.ModuleList(ConvModule(out_channels, out_channels, 3, **layer) for _ in self.used)
        for level in range(extra if self.add_extra_convs else 0):
            from_backbone = level == 0 and self.add_extra_convs == "on_input"
            channels = in_channels[last] if from_backbone else out_channels
            self.fpn_convs.append(ConvModule(channels, out_channels, 3, stride=2, **layer))

    def forward(self, inputs: LevelMaps) -> tuple[Tensor, ...]:
        """Return ``num_outs`` maps, (B, out_channels, h, w) each, from fine to coarse.

        Args:
            inputs: one map per entry of ``in_channels``, from fine to coarse.

        Raises:
            ValueError: the maps are not what ``in_channels`` says.
        """
        check_channels(inputs, self.in_channels)
        laterals = self._top_down(inputs)
        outs = [conv(lateral) for conv, lateral in zip(self.fpn_convs, laterals, strict=False)]
        sources = {"on_input": inputs[self.used[-1]], "on_lateral": laterals[-1], "on_output": outs[-1]}
        for level in range(len(outs), self.num_outs):
            if not self.add_extra_convs:
                outs.append(outs[-1][..., ::2, ::2])
                continue
            is_first = level == len(laterals)
            source = sources[self.add_extra_convs] if is_first else outs[-1]
            if self.relu_before_extra_convs and not is_first:
                source = F.relu(source)
            outs.append(self.fpn_convs[level](source))
        return tuple(outs)

    def _top_down(self, inputs: LevelMaps) -> list[Tensor]:
        laterals = [conv(inputs[index]) for conv, index in zip(self.lateral_convs, self.used, strict=True)]
        for level in range(len(laterals) - 1, 0, -1):
            finer = laterals[level - 1]
            laterals[level - 1] = finer + upsample(laterals[level], finer, self.upsample_cfg)
        return laterals


def _extra_source(add_extra_convs: bool | str) -> str | None:
    """Return what the first extra convolution reads, None without extra convolutions."""
    if isinstance(add_extra_convs, bool):
        return "on_input" if add_extra_convs else None
    if add_extra_convs not in EXTRA_SOURCES:
        raise ValueError(
            f"neck.add_extra_convs must be a bool or one of {', '.join(EXTRA_SOURCES)}, but got {add_extra_convs!r}"
        )
    return add_extra_convs


def _extra_levels(num_outs: int, used: range, num_ins: int) -> int:
    """Return the number of levels on top of those of the backbone."""
    extra = num_outs - len(used)
    if extra < 0 or (extra > 0 and used[-1] != num_ins - 1):
        raise ValueError(
            f"neck.num_outs={num_outs} does not fit the {len(used)} maps that start_level and end_level take from the "
            f"{num_ins} of neck.in_channels: there must be at least as many levels, and exactly as many where "
            "end_level is not the last map"
        )
    return extra
