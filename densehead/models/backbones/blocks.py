"""The residual blocks of ResNets."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from densehead.models.layers import build_conv, build_norm
from densehead.typing import ConfigDict, OptConfig


class ResidualBlock(BaseModule):
    """``relu(shortcut(x) + branch(x))`` with a branch of convolutions, each followed by a norm.

    Args:
        convs: the branch; named ``conv1``, ``conv2``, ... and their norms ``bn1``, ``bn2``, ... (``gn1``, ... where
            ``norm_cfg`` says so).
        norm_cfg: the norm layers.
        downsample: the shortcut; the input itself if None.
        with_cp: compute the block again in the backward pass instead of keeping its maps.
        zero_init: start with a branch that puts out zeros (Goyal et al. 2017, section 5.1).
    """

    expansion = 1

    def __init__(
        self,
        convs: Sequence[nn.Module],
        *,
        norm_cfg: ConfigDict,
        downsample: nn.Module | None = None,
        with_cp: bool = False,
        zero_init: bool = False,
    ) -> None:
        super().__init__()
        self.layer_names = []
        for number, conv in enumerate(convs, 1):
            name, norm = build_norm(norm_cfg, conv.out_channels, number)
            self.add_module(f"conv{number}", conv)
            self.add_module(name, norm)
            self.layer_names.append((f"conv{number}", name))
        self.relu = nn.ReLU(inplace=True)
        self.downsample = downsample
        self.with_cp = with_cp
        if zero_init:
            self.init_cfg = {"type": "Constant", "val": 0, "override": {"name": name}}

    def forward(self, x: Tensor) -> Tensor:
        """(B, c, h, w) to (B, expansion * planes, h / stride, w / stride)."""
        if self.with_cp and x.requires_grad:
            return self.relu(checkpoint(self._sum, x, use_reentrant=False))
        return self.relu(self._sum(x))

    def _sum(self, x: Tensor) -> Tensor:
        branch = x
        for index, (conv, norm) in enumerate(self.layer_names):
            if index:
                branch = self.relu(branch)
            branch = getattr(self, norm)(getattr(self, conv)(branch))
        branch += x if self.downsample is None else self.downsample(x)
        return branch


class BasicBlock(ResidualBlock):
    """Two 3x3 convolutions (He et al. 2016, figure 5 left), the block of ResNet-18 and -34."""

    def __init__(
        self,
        inplanes: int,
        planes: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        style: str = "pytorch",
        conv_cfg: OptConfig = None,
        dcn: OptConfig = None,
        **kwargs,
    ) -> None:
        if dcn is not None:
            raise ValueError("backbone.dcn needs the bottleneck blocks of backbone.depth 50, 101 or 152")
        size = {"stride": stride, "padding": dilation, "dilation": dilation, "bias": False}
        convs = [
            build_conv(conv_cfg, inplanes, planes, 3, **size),
            build_conv(conv_cfg, planes, planes, 3, padding=1, bias=False),
        ]
        super().__init__(convs, **kwargs)


class Bottleneck(ResidualBlock):
    """1x1, 3x3 and 1x1 convolution (He et al. 2016, figure 5 right), the block of ResNet-50 and deeper.

    Args:
        style: ``'pytorch'`` puts the stride into the 3x3 convolution, ``'caffe'`` into the first 1x1.
        dcn: deformable convolution in place of the 3x3 one; with ``fallback_on_stride`` not where it has a stride.
        groups: groups of the 3x3 convolution.
        width: channels of the 3x3 convolution; ``planes`` if None.
    """

    expansion = 4

    def __init__(
        self,
        inplanes: int,
        planes: int,
        *,
        stride: int = 1,
        dilation: int = 1,
        style: str = "pytorch",
        conv_cfg: OptConfig = None,
        dcn: OptConfig = None,
        groups: int = 1,
        width: int | None = None,
        **kwargs,
    ) -> None:
        first, second = (stride, 1) if style == "caffe" else (1, stride)
        width = planes if width is None else width
        spatial = {"stride": second, "padding": dilation, "dilation": dilation, "groups": groups, "bias": False}
        convs = [
            build_conv(conv_cfg, inplanes, width, 1, stride=first, bias=False),
            build_conv(spatial_cfg(conv_cfg, dcn, second), width, width, 3, **spatial),
            build_conv(conv_cfg, width, planes * self.expansion, 1, bias=False),
        ]
        super().__init__(convs, **kwargs)


def spatial_cfg(conv_cfg: OptConfig, dcn: OptConfig, stride: int) -> OptConfig:
    """Return the config of a 3x3 convolution: ``dcn`` where there is one, unless it falls back for the stride."""
    if dcn is None or (dcn.get("fallback_on_stride", False) and stride != 1):
        return conv_cfg
    return {key: value for key, value in dcn.items() if key != "fallback_on_stride"}
