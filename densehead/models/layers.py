"""Building of convolution and norm layers from config dicts, for every part of a model."""

from __future__ import annotations

from mmcv.cnn import build_activation_layer, build_conv_layer, build_norm_layer
from torch import Tensor, nn

from densehead.registry import MODELS, SCOPE
from densehead.typing import ConfigDict, OptConfig

__all__ = ["DepthwiseConvModule", "build_act", "build_conv", "build_norm", "scoped"]


def scoped(cfg: OptConfig) -> OptConfig:
    """Return a layer's config so that mmcv's builders find densehead's layers under any default scope.

    mmcv looks in the registries of the default scope, where for example ``DCNv2`` is known only if mmcv was compiled.

    Args:
        cfg: ``conv_cfg``, ``norm_cfg`` or ``act_cfg``; it is not changed.
    """
    if cfg is None or cfg.get("type") not in MODELS.module_dict:
        return cfg
    return {**cfg, "type": f"{SCOPE}.{cfg['type']}"}


def build_conv(cfg: OptConfig, *args, **kwargs) -> nn.Module:
    """Build the convolution that ``conv_cfg`` names, a plain 2d one if None.

    Args:
        cfg: ``dict(type=..., **arguments of that type)`` or None.
        *args: of the convolution, as :class:`torch.nn.Conv2d` has them.
        **kwargs: likewise.
    """
    return build_conv_layer(scoped(cfg), *args, **kwargs)


def build_norm(cfg: ConfigDict, channels: int, postfix: int | str = "") -> tuple[str, nn.Module]:
    """Build the norm layer that ``norm_cfg`` names.

    Args:
        cfg: ``dict(type=..., requires_grad=True, **arguments of that type)``.
        channels: number of channels that it normalises.
        postfix: ends the name, ``'bn' + postfix`` for a batch norm.

    Returns:
        The name under which checkpoints know the layer, and the layer.
    """
    return build_norm_layer(scoped(cfg), channels, postfix)


def build_act(cfg: OptConfig) -> nn.Module:
    """Build the activation that ``act_cfg`` names, an identity if None; in place where it can be, unless told not to.

    Args:
        cfg: ``dict(type=..., **arguments of that type)`` or None.
    """
    if cfg is None:
        return nn.Identity()
    layer = build_activation_layer(scoped(cfg))
    if hasattr(layer, "inplace"):
        layer.inplace = cfg.get("inplace", True)
    return layer


class DepthwiseConvModule(nn.Module):
    """A convolution within each channel, then one across the channels, each with norm and activation.

    Stands where a ``ConvModule`` does (MobileNets, https://arxiv.org/abs/1704.04861, section 3.1), under the parameter
    names of NanoDet: ``depthwise``, ``dwnorm``, ``pointwise``, ``pwnorm``.

    Args:
        in_channels, out_channels: of the module.
        kernel_size, stride, padding: of the convolution within the channels.
        norm_cfg: norm after each of the two, which then have no bias; none if None.
        act_cfg: activation after each of the two; none if None.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        stride: int = 1,
        padding: int = 0,
        *,
        norm_cfg: OptConfig = None,
        act_cfg: OptConfig = None,
    ) -> None:
        super().__init__()
        bias = norm_cfg is None
        self.depthwise = nn.Conv2d(
            in_channels, in_channels, kernel_size, stride, padding, groups=in_channels, bias=bias
        )
        self.pointwise = nn.Conv2d(in_channels, out_channels, 1, bias=bias)
        self.dwnorm, self.pwnorm = (
            nn.Identity() if norm_cfg is None else build_norm(norm_cfg, channels)[1]
            for channels in (in_channels, out_channels)
        )
        self.act = build_act(act_cfg)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, out_channels, h, w) of (B, in_channels, H, W)."""
        x = self.act(self.dwnorm(self.depthwise(x)))
        return self.act(self.pwnorm(self.pointwise(x)))
