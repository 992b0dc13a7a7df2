from __future__ import annotations

import math
from contextlib import nullcontext

import pytest
import torch
from mmcv.cnn import ConvModule, build_conv_layer
from mmengine.registry import MODELS as ROOT_MODELS
from mmengine.registry import DefaultScope
from torch.autograd import gradcheck
from torch.nn import functional as F

from densehead.ops import DeformConv2dPack, ModulatedDeformConv2dPack, deform_conv2d, use_backend
from densehead.ops.backend import mmcv_ops
from densehead.registry import MODELS
from tests.ops.conftest import needs_mmcv


@pytest.fixture(params=["torchvision", pytest.param("mmcv", marks=needs_mmcv), "own"])
def any_backend(request):
    """Run the test once with each library that is there, and with what computes on a CPU."""
    with use_backend(request.param) if request.param != "own" else nullcontext():
        yield request.param


GEOMETRIES = [
    {},
    {"stride": 2, "padding": 1},
    {"padding": (2, 1), "dilation": (2, 1)},
    {"groups": 2, "padding": 1},
    {"deform_groups": 2, "padding": 1},
    {"groups": 2, "deform_groups": 4, "padding": 1},
]


def bilinear(image, y, x):
    """Value of an (H, W) image between its pixels; 0 beyond."""
    height, width = image.shape
    top, left = math.floor(y), math.floor(x)
    value = 0.0
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < height and 0 <= column < width:
                value += (1 - abs(y - row)) * (1 - abs(x - column)) * image[row, column].item()
    return value


def naive(x, offset, weight, bias, mask, stride=1, padding=0, dilation=1, groups=1, deform_groups=1):
    (sy, sx), (py, px), (dy, dx) = (v if isinstance(v, tuple) else (v, v) for v in (stride, padding, dilation))
    batch, channels = x.shape[:2]
    out_channels, group_channels, kh, kw = weight.shape
    out = x.new_zeros(batch, out_channels, *offset.shape[-2:])
    for b, o, i, j in torch.cartesian_prod(*(torch.arange(n) for n in out.shape)).tolist():
        total = 0.0 if bias is None else bias[o].item()
        for c in range(group_channels):
            channel = o // (out_channels // groups) * group_channels + c
            part = channel // (channels // deform_groups)
            for u in range(kh):
                for v in range(kw):
                    tap = part * kh * kw + u * kw + v
                    y = i * sy - py + u * dy + offset[b, 2 * tap, i, j].item()
                    at_x = j * sx - px + v * dx + offset[b, 2 * tap + 1, i, j].item()
                    factor = 1.0 if mask is None else mask[b, tap, i, j].item()
                    total += weight[o, c, u, v].item() * factor * bilinear(x[b, channel], y, at_x)
        out[b, o, i, j] = total
    return out


def inputs(geometry, modulated, dtype=torch.float32, size=(4, 5)):
    generator = torch.Generator().manual_seed(0)
    groups, deform_groups = geometry.get("groups", 1), geometry.get("deform_groups", 1)
    x = torch.randn(2, 4, *size, generator=generator, dtype=dtype)
    weight = torch.randn(6, 4 // groups, 3, 2, generator=generator, dtype=dtype)
    plain = {name: geometry[name] for name in ("stride", "padding", "dilation") if name in geometry}
    out = F.conv2d(x, weight.expand(6, 4 // groups, 3, 2), groups=groups, **plain).shape[-2:]
    offset = torch.randn(2, deform_groups * 12, *out, generator=generator, dtype=dtype) * 1.5
    mask = torch.rand(2, deform_groups * 6, *out, generator=generator, dtype=dtype) if modulated else None
    bias = torch.randn(6, generator=generator, dtype=dtype) if modulated else None
    return x, offset, weight, bias, mask


@pytest.mark.parametrize("modulated", [False, True], ids=["v1", "v2"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_equals_a_loop(any_backend, geometry, modulated):
    x, offset, weight, bias, mask = inputs(geometry, modulated)
    found = deform_conv2d(x, offset, weight, bias, mask=mask, **geometry)
    torch.testing.assert_close(found, naive(x, offset, weight, bias, mask, **geometry), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("modulated", [False, True], ids=["v1", "v2"])
def test_gradients(any_backend, modulated):
    geometry = {"deform_groups": 2, "padding": 1}
    x, offset, weight, bias, mask = inputs(geometry, modulated, torch.float64, (3, 3))
    tensors = [one.requires_grad_() for one in (x, offset, weight, bias, mask) if one is not None]

    def convolve(x, offset, weight, bias=None, mask=None):
        return deform_conv2d(x, offset, weight, bias, mask=mask, **geometry)

    # fast_mode: mmcv adds gradients up in an order that may vary
    assert gradcheck(convolve, tensors, fast_mode=True, nondet_tol=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(any_backend, dtype):
    x, offset, weight, bias, mask = (one.to(dtype) for one in inputs({}, True))
    found = deform_conv2d(x, offset, weight, bias, mask=mask)
    assert found.dtype == dtype
    expected = deform_conv2d(x.float(), offset.float(), weight.float(), bias.float(), mask=mask.float())
    assert torch.equal(found, expected.to(dtype))


@pytest.mark.parametrize("modulated", [False, True], ids=["v1", "v2"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_gradients_equal_those_of_the_kernels(geometry, modulated, memory_format):
    tensors = [one for one in inputs(geometry, modulated) if one is not None]
    upstream, outputs, grads = None, [], []
    for force in (nullcontext(), use_backend("torchvision")):
        given = [one.clone().requires_grad_() for one in tensors]
        x = given[0].contiguous(memory_format=memory_format)
        bias, mask = given[3:] if modulated else (None, None)
        with force:
            out = deform_conv2d(x, *given[1:3], bias, mask=mask, **geometry)
        upstream = torch.randn_like(out) if upstream is None else upstream
        outputs.append(out.detach())
        grads.append(torch.autograd.grad(out, given, upstream))
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(*grads, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_gradients_of_taps_on_pixels_equal_those_of_the_kernels(geometry):
    """Where those of a fresh layer stand, and the interpolation has a corner."""
    given = inputs(geometry, modulated=True, dtype=torch.float64)
    given = (given[0], given[1].round(), *given[2:])
    found = []
    for force in (nullcontext(), use_backend("torchvision")):
        tensors = [one.clone().requires_grad_() for one in given]
        with force:
            out = deform_conv2d(*tensors[:4], mask=tensors[4], **geometry)
        found.append((out, *torch.autograd.grad((out * out).sum(), tensors)))
    torch.testing.assert_close(*found)


@pytest.mark.parametrize("kind", ["DCN", "DCNv2"])
def test_layers_under_autocast(any_backend, kind):
    layer = MODELS.build({"type": kind, "in_channels": 4, "out_channels": 6, "kernel_size": 3, "bias": False})
    torch.nn.init.normal_(layer.conv_offset.weight, std=0.1)
    x = torch.randn(2, 4, 5, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    out.float().sum().backward()
    assert out.dtype == torch.bfloat16
    assert all(parameter.grad.dtype == torch.float32 for parameter in layer.parameters())
    torch.testing.assert_close(out.float(), layer(x), rtol=0.1, atol=0.1)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e30])
def test_displacements_that_are_no_places(value):
    """What is beyond the map reads 0; NaN stays NaN, where compiled kernels read memory that is not theirs."""
    x, weight = torch.randn(1, 2, 4, 4), torch.randn(3, 2, 3, 3)
    offset = torch.zeros(1, 18, 4, 4)
    expected = deform_conv2d(x, offset, weight, padding=1)
    offset[0, 8, 1, 2] = value  # y of the tap in the middle
    found = deform_conv2d(x, offset, weight, padding=1)
    expected[0, :, 1, 2] = math.nan if math.isnan(value) else expected[0, :, 1, 2] - weight[:, :, 1, 1] @ x[0, :, 1, 2]
    torch.testing.assert_close(found, expected, equal_nan=True, rtol=1e-4, atol=1e-5)


def test_no_images():
    assert deform_conv2d(torch.randn(0, 2, 4, 4), torch.randn(0, 18, 2, 2), torch.randn(3, 2, 3, 3)).shape == (
        0,
        3,
        2,
        2,
    )


def test_channel_errors():
    x, offset, weight, bias, mask = inputs({}, True)
    with pytest.raises(ValueError, match=r"offset must have 24 channels for a kernel of \(3, 2\) and deform_groups=2"):
        deform_conv2d(x, offset, weight, deform_groups=2)
    with pytest.raises(ValueError, match=r"mask must have 6 channels"):
        deform_conv2d(x, offset, weight, bias, mask=mask[:, :5])


@pytest.mark.parametrize("layer_type", [DeformConv2dPack, ModulatedDeformConv2dPack])
@pytest.mark.parametrize("geometry", [{}, {"stride": 2, "padding": 1, "groups": 2, "deform_groups": 2}])
def test_a_new_layer_is_a_plain_convolution(any_backend, layer_type, geometry):
    layer = layer_type(4, 6, 3, bias=False, **geometry)
    x = torch.randn(2, 4, 7, 6)
    plain = {name: value for name, value in geometry.items() if name != "deform_groups"}
    expected = F.conv2d(x, layer.weight, **plain)
    if layer_type is ModulatedDeformConv2dPack:
        expected = expected / 2  # every tap has the factor sigmoid(0)
    torch.testing.assert_close(layer(x), expected, rtol=1e-4, atol=1e-5)


def test_parameter_names_and_gradients():
    v1, v2 = DeformConv2dPack(4, 6, 3), ModulatedDeformConv2dPack(4, 6, 3, deform_groups=2)
    shapes = {name: tuple(value.shape) for name, value in v1.state_dict().items()}
    assert shapes == {"weight": (6, 4, 3, 3), "conv_offset.weight": (18, 4, 3, 3), "conv_offset.bias": (18,)}
    shapes = {name: tuple(value.shape) for name, value in v2.state_dict().items()}
    expected = {"weight": (6, 4, 3, 3), "bias": (6,), "conv_offset.weight": (54, 4, 3, 3), "conv_offset.bias": (54,)}
    assert shapes == expected
    for layer in (v1, v2):
        layer(torch.randn(2, 4, 5, 5)).square().sum().backward()
        assert all(parameter.grad.abs().sum() > 0 for parameter in layer.parameters())


def test_layer_errors():
    with pytest.raises(ValueError, match="DCN has no bias: set bias=False"):
        DeformConv2dPack(4, 6, 3, bias=True)
    with pytest.raises(ValueError, match="out_channels=5 must be divisible by groups=2"):
        ModulatedDeformConv2dPack(4, 5, 3, groups=2)
    with pytest.raises(ValueError, match="in_channels=4 must be divisible by deform_groups=3"):
        DeformConv2dPack(4, 5, 3, deform_groups=3)


@pytest.mark.parametrize("scope", [None, "densehead", "mmengine"])
@pytest.mark.parametrize("kind", ["DCN", "DCNv2"])
def test_conv_module_finds_the_layer_in_any_scope(scope, kind):
    cfg = {"type": kind, "deform_groups": 2}
    with DefaultScope.overwrite_default_scope(scope):
        module = ConvModule(4, 6, 3, padding=1, conv_cfg=cfg, norm_cfg={"type": "GN", "num_groups": 2})
        assert build_conv_layer(cfg, 4, 6, 3).deform_groups == 2
    assert cfg == {"type": kind, "deform_groups": 2}
    assert module(torch.randn(1, 4, 5, 5)).shape == (1, 6, 5, 5)
    assert "conv.conv_offset.weight" in module.state_dict()


@pytest.mark.skipif(mmcv_ops() is not None, reason="mmcv has layers of its own here")
def test_root_registry_has_the_layers_where_mmcv_has_none():
    assert ROOT_MODELS.get("DCN") is DeformConv2dPack
    assert ROOT_MODELS.get("DCNv2") is ModulatedDeformConv2dPack


@needs_mmcv
@pytest.mark.parametrize("kind", ["DCN", "DCNv2"])
def test_weights_of_mmcv_load_with_the_same_result(any_backend, kind):
    import mmcv.ops

    theirs = {"DCN": mmcv.ops.DeformConv2dPack, "DCNv2": mmcv.ops.ModulatedDeformConv2dPack}[kind](
        4, 6, 3, stride=2, padding=1, deform_groups=2
    )
    torch.nn.init.normal_(theirs.conv_offset.weight, std=0.3)
    ours = MODELS.get(kind)(4, 6, 3, stride=2, padding=1, deform_groups=2)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 4, 9, 8)
    outputs, grads = [], []
    for layer in (ours, theirs):
        outputs.append(layer(x))
        outputs[-1].square().sum().backward()
        grads.append([parameter.grad for parameter in layer.parameters()])
    torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-3)


@needs_mmcv
def test_any_batch_size_with_mmcv():
    x, offset = torch.randn(33, 2, 4, 4), torch.randn(33, 18, 2, 2)
    weight = torch.randn(3, 2, 3, 3)
    found = []
    for name in ("mmcv", "torchvision"):
        with use_backend(name):
            found.append(deform_conv2d(x, offset, weight))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-4)
