from __future__ import annotations

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from densehead.registry import MODELS

CHANNELS = [4, 8, 12, 16]
SIZES = [(17, 20), (9, 10), (5, 5), (3, 3)]


def build(**kwargs):
    torch.manual_seed(0)
    neck = MODELS.build(dict(type="FPN", **{"in_channels": CHANNELS, "out_channels": 6, "num_outs": 4, **kwargs}))
    for name, parameter in neck.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)
    return neck


def maps(requires_grad: bool = False) -> list[torch.Tensor]:
    torch.manual_seed(1)
    return [
        torch.randn(2, channels, *size, requires_grad=requires_grad)
        for channels, size in zip(CHANNELS, SIZES, strict=True)
    ]


def enlarge(small: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Take for every place of the larger map the place of the smaller one that it falls into."""
    (rows, columns), (height, width) = small.shape[-2:], size
    row = torch.tensor([math.floor(r * rows / height) for r in range(height)])
    column = torch.tensor([math.floor(c * columns / width) for c in range(width)])
    return small[..., row[:, None], column]


def reference(neck, inputs, *, start=0, end=3, num_outs=4, extra=None, relu=False):
    """Compute the pyramid from the parameters' names."""
    state = neck.state_dict()

    def conv(kind, index, x, **kwargs):
        return F.conv2d(x, state[f"{kind}.{index}.conv.weight"], state[f"{kind}.{index}.conv.bias"], **kwargs)

    levels = range(start, end + 1)
    laterals = [conv("lateral_convs", index, inputs[level]) for index, level in enumerate(levels)]
    for index in reversed(range(len(laterals) - 1)):
        laterals[index] = laterals[index] + enlarge(laterals[index + 1], laterals[index].shape[-2:])
    outs = [conv("fpn_convs", index, lateral, padding=1) for index, lateral in enumerate(laterals)]
    source = {None: None, "on_input": inputs[end], "on_lateral": laterals[-1], "on_output": outs[-1]}[extra]
    while len(outs) < num_outs:
        if extra is None:
            outs.append(F.max_pool2d(outs[-1], 1, stride=2))
            continue
        outs.append(conv("fpn_convs", len(outs), source, stride=2, padding=1))
        source = outs[-1].relu() if relu else outs[-1]
    return outs


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize(
    ("mode", "extra"),
    [
        (False, None),
        (True, "on_input"),
        ("on_input", "on_input"),
        ("on_lateral", "on_lateral"),
        ("on_output", "on_output"),
    ],
)
def test_extra_levels(mode, extra, relu):
    neck = build(num_outs=6, start_level=1, add_extra_convs=mode, relu_before_extra_convs=relu)
    expected = reference(neck, maps(), start=1, num_outs=6, extra=extra, relu=relu)
    outs = neck(maps())
    assert [tuple(level.shape) for level in outs] == [(2, 6, *size) for size in [*SIZES[1:], (2, 2), (1, 1), (1, 1)]]
    for ours, theirs in zip(outs, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize(("start", "end", "num_outs"), [(0, -1, 4), (1, 2, 2), (0, 0, 1), (2, 3, 2)])
def test_levels_of_the_backbone_that_are_used(start, end, num_outs):
    neck = build(start_level=start, end_level=end, num_outs=num_outs)
    expected = reference(neck, maps(), start=start, end=end % 4, num_outs=num_outs)
    for ours, theirs in zip(neck(maps()), expected, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_every_parameter_learns():
    neck = build(num_outs=6, start_level=1, add_extra_convs="on_output", norm_cfg=dict(type="GN", num_groups=2))
    inputs = maps(requires_grad=True)
    sum(level.square().sum() for level in neck(inputs)).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in neck.parameters())
    assert inputs[0].grad is None
    assert all(level.grad.abs().sum() > 0 for level in inputs[1:])


def test_names():
    neck = build(start_level=1, num_outs=5, add_extra_convs="on_input")
    assert [(name, tuple(p.shape)) for name, p in neck.named_parameters() if name.endswith("weight")] == [
        ("lateral_convs.0.conv.weight", (6, 8, 1, 1)),
        ("lateral_convs.1.conv.weight", (6, 12, 1, 1)),
        ("lateral_convs.2.conv.weight", (6, 16, 1, 1)),
        ("fpn_convs.0.conv.weight", (6, 6, 3, 3)),
        ("fpn_convs.1.conv.weight", (6, 6, 3, 3)),
        ("fpn_convs.2.conv.weight", (6, 6, 3, 3)),
        ("fpn_convs.3.conv.weight", (6, 16, 3, 3)),
        ("fpn_convs.4.conv.weight", (6, 6, 3, 3)),
    ]


def test_norms_and_activations():
    neck = build(norm_cfg=dict(type="BN"), act_cfg=dict(type="ReLU"), no_norm_on_lateral=True)
    names = set(neck.state_dict())
    assert {"fpn_convs.0.bn.weight", "lateral_convs.0.conv.bias"} < names
    assert not {"lateral_convs.0.bn.weight", "fpn_convs.0.conv.bias"} & names
    assert all(level.min() == 0 for level in neck(maps()))


def test_enlarging_as_configured():
    inputs = [torch.randn(1, 1, 4, 4), torch.randn(1, 1, 2, 2)]
    by_factor = build(in_channels=[1, 1], num_outs=2, upsample_cfg=dict(mode="nearest", scale_factor=2))
    to_size = build(in_channels=[1, 1], num_outs=2)
    torch.testing.assert_close(by_factor(inputs)[0], to_size(inputs)[0])
    smooth = build(in_channels=[1, 1], num_outs=2, upsample_cfg=dict(mode="bilinear", align_corners=False))
    assert not torch.allclose(smooth(inputs)[0], to_size(inputs)[0])


def test_initial_weights_are_uniform_by_both_fans():
    neck = build(out_channels=64)
    neck.init_weights()
    weight = neck.fpn_convs[0].conv.weight
    bound = math.sqrt(6 / (64 * 9 + 64 * 9))
    assert weight.abs().max().item() == pytest.approx(bound, rel=0.01)
    assert weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)
    assert (neck.fpn_convs[0].conv.bias == 0).all()


def test_configs_stay_as_they_are():
    cfg = dict(
        type="FPN",
        in_channels=CHANNELS,
        out_channels=6,
        num_outs=5,
        conv_cfg=dict(type="Conv2d"),
        norm_cfg=dict(type="GN", num_groups=2),
        act_cfg=dict(type="ReLU"),
        upsample_cfg=dict(mode="nearest"),
        init_cfg=dict(type="Xavier", layer="Conv2d"),
    )
    before = copy.deepcopy(cfg)
    MODELS.build(cfg)(maps())
    assert cfg == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(num_outs=3), r"neck\.num_outs=3 does not fit the 4 maps that start_level and end_level take"),
        (dict(end_level=2, num_outs=4), r"neck\.num_outs=4 does not fit the 3 maps"),
        (dict(end_level=4), r"neck\.start_level and neck\.end_level must name maps among the 4 .* end_level=4"),
        (dict(start_level=4), r"neck\.in_channels=\[4, 8, 12, 16\], but got start_level=4 and end_level=-1"),
        (dict(start_level=2, end_level=1), r"but got start_level=2 and end_level=1"),
        (dict(add_extra_convs="on_top"), r"neck\.add_extra_convs must be a bool or one of on_input, .* got 'on_top'"),
    ],
)
def test_keys_that_do_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        build(**change)


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (
            maps()[:3],
            r"in_channels=\[4, 8, 12, 16\], but the backbone puts out 3 maps with \[4, 8, 12\] channels",
        ),
        (maps()[::-1], r"puts out 4 maps with \[16, 12, 8, 4\] channels: make neck\.in_channels equal to that"),
    ],
)
def test_maps_that_do_not_fit(inputs, message):
    with pytest.raises(ValueError, match=message):
        build()(inputs)
