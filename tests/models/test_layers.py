from __future__ import annotations

import pytest
import torch
from mmcv.cnn import ConvModule
from mmengine.registry import DefaultScope
from torch import nn

from densehead.models.layers import DepthwiseConvModule, build_act, build_conv, build_norm, scoped


@pytest.mark.parametrize("scope", [None, "mmdet", "densehead", "mmengine"])
def test_deformable_convolutions_are_found_under_any_default_scope(scope):
    cfg = dict(type="DCNv2", deform_groups=2)
    with DefaultScope.overwrite_default_scope(scope):
        layer = build_conv(cfg, 4, 6, 3, padding=1, bias=False)
        module = ConvModule(4, 6, 3, conv_cfg=scoped(cfg))
    assert layer.conv_offset.weight.shape == (2 * 3 * 9, 4, 3, 3)
    assert layer(torch.rand(1, 4, 5, 5)).shape == (1, 6, 5, 5)
    assert type(module.conv) is type(layer)
    assert cfg == dict(type="DCNv2", deform_groups=2)


def test_plain_layers():
    conv = build_conv(None, 3, 8, 3, stride=2, bias=False)
    assert type(conv) is nn.Conv2d
    assert (conv.stride, conv.bias) == ((2, 2), None)
    assert scoped(None) is None
    name, norm = build_norm(dict(type="GN", num_groups=4, requires_grad=False), 8, 2)
    assert (name, norm.num_groups, norm.weight.requires_grad) == ("gn2", 4, False)


def test_activations():
    assert type(build_act(None)) is nn.Identity
    leaky = build_act(dict(type="LeakyReLU", negative_slope=0.1))
    assert (leaky.negative_slope, leaky.inplace) == (0.1, True)
    assert not build_act(dict(type="ReLU", inplace=False)).inplace
    assert type(build_act(dict(type="PReLU"))) is nn.PReLU  # has no inplace


@pytest.mark.parametrize("norm_cfg", [dict(type="BN"), dict(type="GN", num_groups=2), None])
def test_depthwise_convolution(norm_cfg):
    """Channel by channel, and then across the channels."""
    module = DepthwiseConvModule(4, 6, 3, stride=2, padding=1, norm_cfg=norm_cfg, act_cfg=dict(type="ReLU")).eval()
    x = torch.randn(2, 4, 8, 10)
    bias = module.depthwise.bias
    inner = torch.cat(
        [
            nn.functional.conv2d(
                x[:, c : c + 1], module.depthwise.weight[c : c + 1], None if bias is None else bias[c : c + 1], 2, 1
            )
            for c in range(4)
        ],
        1,
    )
    inner = module.dwnorm(inner).relu()
    across = torch.einsum("oc,bchw->bohw", module.pointwise.weight[:, :, 0, 0], inner)
    if bias is not None:
        across = across + module.pointwise.bias[:, None, None]
    torch.testing.assert_close(module(x), module.pwnorm(across).relu())
    assert (bias is None) == (norm_cfg is not None)
