"""Building of convolution and norm layers from config dicts, for every part of a model."""

from __future__ import annotations

from mmcv.cnn import build_conv_layer, build_norm_layer
from torch import nn

from densehead.registry import MODELS, SCOPE
from densehead.typing import ConfigDict, OptConfig

__all__ = ["build_conv", "build_norm", "scoped"]


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
