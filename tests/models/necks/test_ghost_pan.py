"""GhostPAN; that it equals the official one is tested with the whole detector."""

import pytest
import torch
from torch import nn

from densehead.models import GhostPAN

CHANNELS = [12, 24, 48]


def maps(sizes=((16, 24), (8, 12), (4, 6)), images=2):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(images, c, *size, generator=generator) for c, size in zip(CHANNELS, sizes)]


@pytest.mark.parametrize("num_extra_level", [0, 1])
@pytest.mark.parametrize("use_depthwise", [True, False])
def test_levels(num_extra_level, use_depthwise):
    neck = GhostPAN(CHANNELS, 16, use_depthwise=use_depthwise, num_extra_level=num_extra_level)
    levels = neck(maps())
    sizes = [(16, 24), (8, 12), (4, 6), (2, 3)][: 3 + num_extra_level]
    assert [tuple(level.shape) for level in levels] == [(2, 16, *size) for size in sizes]
    sum(level.sum() for level in levels).backward()
    assert not [name for name, parameter in neck.named_parameters() if parameter.grad is None]


def test_reads_the_maps_as_the_paths_say():
    """The finest level hears of all maps by the way down, the coarsest by the way up."""
    neck = GhostPAN(CHANNELS, 16).eval()
    inputs = maps()
    levels = neck(inputs)
    for changed in range(3):
        other = [level + (number == changed) for number, level in enumerate(inputs)]
        assert not any(torch.equal(*pair) for pair in zip(levels, neck(other)))


def test_naive_reference():
    """The definition, written out for three maps and one extra level."""
    neck = GhostPAN(CHANNELS, 8, use_depthwise=True, num_extra_level=1).eval()
    for parameter in neck.parameters():
        nn.init.normal_(parameter, std=0.3)
    fine, middle, coarse = (reduce(level) for reduce, level in zip(neck.reduce_layers, maps()))
    up = nn.Upsample(scale_factor=2, mode="bilinear")
    inner_middle = neck.top_down_blocks[0](torch.cat([up(coarse), middle], 1))
    inner_fine = neck.top_down_blocks[1](torch.cat([up(inner_middle), fine], 1))
    out_middle = neck.bottom_up_blocks[0](torch.cat([neck.downsamples[0](inner_fine), inner_middle], 1))
    out_coarse = neck.bottom_up_blocks[1](torch.cat([neck.downsamples[1](out_middle), coarse], 1))
    extra = neck.extra_lvl_in_conv[0](coarse) + neck.extra_lvl_out_conv[0](out_coarse)
    for level, expected in zip(neck(maps()), (inner_fine, out_middle, out_coarse, extra)):
        torch.testing.assert_close(level, expected)


def test_sizes_that_are_no_doubles():
    """Maps of images of any size: a coarse map is stretched to the finer one's size."""
    levels = GhostPAN(CHANNELS, 16, num_extra_level=1)(maps([(15, 21), (8, 11), (4, 6)]))
    assert [tuple(level.shape[2:]) for level in levels] == [(15, 21), (8, 11), (4, 6), (2, 3)]


def test_names():
    names = set(GhostPAN(CHANNELS, 16, use_depthwise=True, use_res=True, num_extra_level=1).state_dict())
    assert {
        "reduce_layers.2.conv.weight",
        "reduce_layers.2.bn.running_mean",
        "top_down_blocks.1.reduce_conv.conv.bias",
        "top_down_blocks.1.blocks.0.ghost1.primary_conv.0.weight",
        "top_down_blocks.1.blocks.0.ghost2.cheap_operation.1.weight",
        "bottom_up_blocks.0.blocks.0.shortcut.2.weight",
        "downsamples.1.depthwise.weight",
        "downsamples.1.pwnorm.bias",
        "extra_lvl_out_conv.0.pointwise.weight",
    } <= names
    assert "downsamples.1.conv.weight" in GhostPAN(CHANNELS, 16).state_dict()


def test_a_bottleneck_without_change_of_channels_has_a_plain_shortcut():
    neck = GhostPAN(CHANNELS, 16, num_blocks=2, expand=2)
    first, second = neck.top_down_blocks[0].blocks
    assert len(first.shortcut) == 4
    assert len(second.shortcut) == 0
    assert first.ghost1(torch.zeros(1, 32, 4, 4)).shape[1] == 32  # twice out_channels
    second.eval()
    for module in second.ghost2.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.weight)
    x = torch.randn(1, 16, 4, 4)
    assert torch.equal(second(x), x)
    neck(maps())


def test_residual_of_a_joint():
    neck = GhostPAN(CHANNELS, 16, use_res=True).eval()
    joint, x = neck.top_down_blocks[0], torch.randn(1, 32, 4, 4)
    torch.testing.assert_close(joint(x), joint.blocks(x) + joint.reduce_conv(x))


def test_other_norms():
    neck = GhostPAN(CHANNELS, 16, norm_cfg=dict(type="GN", num_groups=4))
    assert not [module for module in neck.modules() if isinstance(module, nn.BatchNorm2d)]
    neck(maps())


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (dict(out_channels=15), r"neck.out_channels must be even and positive.* got 15"),
        (dict(out_channels=6, expand=0.5), r"neck.out_channels \* neck.expand must be even .* got 3"),
        (dict(out_channels=16, num_blocks=0), r"neck.num_blocks must be at least 1, but got 0"),
        (dict(out_channels=16, num_extra_level=2), r"neck.num_extra_level must be 0 or 1, but got 2"),
        (dict(out_channels=16, norm_cfg=None), r"neck.norm_cfg must name a norm"),
    ],
)
def test_bad_settings(options, match):
    with pytest.raises(ValueError, match=match):
        GhostPAN(CHANNELS, **options)


def test_maps_of_another_backbone():
    with pytest.raises(ValueError, match=r"neck.in_channels=\[12, 24, 48\], but the backbone puts out 2 maps"):
        GhostPAN(CHANNELS, 16)(maps()[:2])
