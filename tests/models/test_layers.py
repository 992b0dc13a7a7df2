from __future__ import annotations

import pytest
import torch
from mmcv.cnn import ConvModule
from mmengine.registry import DefaultScope
from torch import nn

from densehead.models.layers import build_conv, build_norm, scoped


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
