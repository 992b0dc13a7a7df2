"""Deformable convolution, v1 (Dai et al., ICCV 2017) and v2 (Zhu et al., CVPR 2019), as function and as layers."""

from __future__ import annotations

import math
from typing import Any

import torch
import torchvision.ops
from mmengine.registry import MODELS as ROOT_MODELS
from torch import Tensor, nn
from torch.nn.modules.utils import _pair

from densehead.ops.backend import is_forced, mmcv_ops, mmcv_serves
from densehead.ops.boxes import full_precision
from densehead.ops.sampled_conv import sampled_conv2d
from densehead.registry import MODELS

IntPair = int | tuple[int, int]


def deform_conv2d(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    mask: Tensor | None = None,
    stride: IntPair = 1,
    padding: IntPair = 0,
    dilation: IntPair = 1,
    groups: int = 1,
    deform_groups: int = 1,
) -> Tensor:
    """Convolve at displaced places; on a CPU by :mod:`.sampled_conv`, unless ``use_backend`` names a library.

    Args:
        x: (B, C_in, H, W).
        offset: (B, deform_groups * kh * kw * 2, H_out, W_out) displacements in input pixels, y before x, tap by tap.
        weight: (C_out, C_in / groups, kh, kw).
        bias: (C_out,) or None.
        mask: (B, deform_groups * kh * kw, H_out, W_out) factor of each tap (v2); None for v1.
        stride: of the convolution.
        padding: of the convolution.
        dilation: of the convolution.
        groups: of the convolution.
        deform_groups: parts of the input channels that have offsets of their own.

    Returns:
        (B, C_out, H_out, W_out) of the type of ``offset``. Half precision is computed in float32: offsets of a few
        hundred pixels have steps of a quarter pixel in float16, and on CPU there is no half-precision operator.

    Raises:
        ValueError: channels of ``offset`` or ``mask`` that do not fit the kernel and the groups.
    """
    taps = deform_groups * weight.shape[2] * weight.shape[3]
    _check_channels("offset", offset, 2 * taps, weight, deform_groups)
    if mask is not None:
        _check_channels("mask", mask, taps, weight, deform_groups)
    given = (x, offset, weight, bias, mask)
    dtype = torch.float64 if any(one is not None and one.dtype == torch.float64 for one in given) else torch.float32
    tensors = [one if one is None else one.to(dtype) for one in given]
    geometry = _pair(stride), _pair(padding), _pair(dilation)
    with torch.autocast(x.device.type, enabled=False):
        if x.device.type == "cpu" and not is_forced():
            out = sampled_conv2d(*tensors, *geometry, groups, deform_groups)
        elif mmcv_serves(x):
            out = _mmcv(*tensors, geometry, groups, deform_groups)
        else:  # reads both kinds of groups off the shapes
            x, offset_, weight, bias, mask = tensors
            out = torchvision.ops.deform_conv2d(x, offset_, weight, bias, *geometry, mask=mask)
    return out.to(offset.dtype)


def _check_channels(name: str, given: Tensor, expected: int, weight: Tensor, deform_groups: int) -> None:
    if given.shape[1] != expected:
        raise ValueError(
            f"{name} must have {expected} channels for a kernel of {tuple(weight.shape[2:])} and deform_groups="
            f"{deform_groups}, but got shape {tuple(given.shape)}"
        )


def _mmcv(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    geometry: tuple,
    groups: int,
    deform_groups: int,
) -> Tensor:
    ops = mmcv_ops()
    if mask is not None:
        return ops.modulated_deform_conv2d(x, offset, mask, weight, bias, *geometry, groups, deform_groups)
    step = math.gcd(x.shape[0], 32)  # images per call of the kernel; has to divide the batch
    out = ops.deform_conv2d(x, offset, weight, *geometry, groups, deform_groups, False, step)
    return out if bias is None else out + bias[:, None, None]


class _DeformConv(nn.Module):
    """What the two layers share: a convolution whose offsets come from a convolution that starts at zero.

    The attributes are those of :class:`torch.nn.Conv2d`, which :class:`mmcv.cnn.ConvModule` reads.
    """

    maps_per_tap: int
    _version = 2

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: IntPair,
        stride: IntPair = 1,
        padding: IntPair = 0,
        dilation: IntPair = 1,
        groups: int = 1,
        deform_groups: int = 1,
        bias: bool = False,
    ) -> None:
        super().__init__()
        for name, channels in (("in_channels", in_channels), ("out_channels", out_channels)):
            if channels % groups:
                raise ValueError(f"{name}={channels} must be divisible by groups={groups}")
        if in_channels % deform_groups:
            raise ValueError(f"in_channels={in_channels} must be divisible by deform_groups={deform_groups}")
        self.in_channels, self.out_channels = in_channels, out_channels
        self.kernel_size, self.stride = _pair(kernel_size), _pair(stride)
        self.padding, self.dilation = _pair(padding), _pair(dilation)
        self.groups, self.deform_groups = groups, deform_groups
        self.transposed, self.output_padding = False, (0, 0)
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels // groups, *self.kernel_size))
        self.register_parameter("bias", nn.Parameter(torch.zeros(out_channels)) if bias else None)
        self.conv_offset = nn.Conv2d(
            in_channels,
            deform_groups * self.maps_per_tap * math.prod(self.kernel_size),
            self.kernel_size,
            self.stride,
            self.padding,
            self.dilation,
        )
        self.init_offset()

    def init_offset(self) -> None:
        """Start as a plain convolution: no displacement."""
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.zeros_(self.conv_offset.bias)

    def _geometry(self) -> dict[str, Any]:
        names = ("stride", "padding", "dilation", "groups", "deform_groups")
        return {name: getattr(self, name) for name in names}

    def extra_repr(self) -> str:
        geometry = ", ".join(f"{name}={value}" for name, value in self._geometry().items())
        has_bias = self.bias is not None
        return f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, {geometry}, bias={has_bias}"


@MODELS.register_module("DCN")
class DeformConv2dPack(_DeformConv):
    """Deformable convolution v1 in place of a convolution; mmcv's ``'DCN'``, with its config keys and parameter names.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups: of :class:`torch.nn.Conv2d`.
        deform_groups: parts of the input channels that have offsets of their own.
        bias: must be False.
        im2col_step: accepted, without use: the batch is cut as it fits.

    Raises:
        ValueError: ``bias=True``, or channels that the groups do not divide.
    """

    maps_per_tap = 2

    def __init__(self, *args, bias: bool = False, im2col_step: int = 32, **kwargs) -> None:
        if bias:
            raise ValueError("DCN has no bias: set bias=False (conv_bias=False in a head), or take type='DCNv2'")
        super().__init__(*args, bias=False, **kwargs)
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C_in, H, W) to (B, C_out, H_out, W_out)."""
        return deform_conv2d(x, self.conv_offset(x), self.weight, **self._geometry())


@MODELS.register_module("DCNv2")
class ModulatedDeformConv2dPack(_DeformConv):
    """Deformable convolution v2 (a factor for every tap as well); mmcv's ``'DCNv2'``, with its keys and names.

    Args:
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias: of :class:`torch.nn.Conv2d`.
        deform_groups: parts of the input channels that have offsets of their own.
    """

    maps_per_tap = 3

    def __init__(self, *args, bias: bool = True, **kwargs) -> None:
        super().__init__(*args, bias=bias, **kwargs)
        self.init_weights()

    def init_weights(self) -> None:
        """Draw the weights as mmcv does; :class:`mmcv.cnn.ConvModule` then leaves them as they are."""
        bound = 1 / math.sqrt(self.in_channels * math.prod(self.kernel_size))
        nn.init.uniform_(self.weight, -bound, bound)
        if self.bias is not None:
            nn.init.zeros_(self.bias)
        self.init_offset()

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, C_in, H, W) to (B, C_out, H_out, W_out)."""
        maps = self.conv_offset(x)
        taps = maps.shape[1] // 3
        offset, mask = maps[:, : 2 * taps], full_precision(maps[:, 2 * taps :]).sigmoid()
        return deform_conv2d(x, offset, self.weight, self.bias, mask=mask, **self._geometry())


def _serve_root_registry() -> None:
    """Let ``mmcv.cnn.ConvModule(conv_cfg=dict(type='DCNv2'))`` find the layers whatever the default scope is.

    mmcv looks a convolution up in the default scope's registry and then in mmengine's root. Where no scope is set (a
    head built by its class) only the root is left, and mmcv's own layers get there by importing ``mmcv.ops``, which
    takes compiled operators. Where those are missing the names are free, and stay so: ``mmcv.ops`` cannot be imported.
    """
    if mmcv_ops() is not None:
        return
    for name, layer in (("DCN", DeformConv2dPack), ("DCNv2", ModulatedDeformConv2dPack)):
        if name not in ROOT_MODELS.module_dict:
            ROOT_MODELS.register_module(name, module=layer)


_serve_root_registry()
