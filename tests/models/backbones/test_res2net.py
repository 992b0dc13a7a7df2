"""Against what mmdetection 3.3.0's ``Res2Net`` put out (tests/data/res2net.npz)."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from densehead.models import Res2Net

REFERENCE = np.load(Path(__file__).resolve().parents[2] / "data" / "res2net.npz")
MDCONV = {
    "dcn": {"type": "DCNv2", "deform_groups": 1, "fallback_on_stride": False},
    "stage_with_dcn": (False, True, True, True),
}
NETS = {
    "plain": {"base_width": 3, "scales": 4},
    "dcn": {"base_width": 4, "scales": 3, "strides": (1, 2, 2, 1), "dilations": (1, 1, 1, 2), **MDCONV},
}


def small(**keys) -> Res2Net:
    return Res2Net(**{"depth": 50, "base_channels": 8, "stem_channels": 8, **keys})


def fill(net: nn.Module) -> None:
    """Give parameters and statistics values that are the same wherever the tests run."""
    for index, (name, tensor) in enumerate(sorted(net.state_dict().items())):
        if not tensor.dtype.is_floating_point:
            continue
        wave = torch.sin(12.9898 * torch.arange(tensor.numel(), dtype=torch.float64).reshape(tensor.shape) + index)
        scale = (4 / tensor[0].numel()) ** 0.5 if tensor.ndim > 1 else 0.5
        tensor.copy_(1 + 0.5 * wave if name.endswith("running_var") else wave * scale)


def image() -> torch.Tensor:
    return torch.sin(0.37 * torch.arange(3 * 40 * 33, dtype=torch.float64)).float().reshape(1, 3, 40, 33)


def test_names_shapes_and_their_order():
    with torch.device("meta"):
        net = Res2Net(depth=101, **copy.deepcopy(MDCONV))
    assert [f"{name} {tuple(value.shape)}" for name, value in net.state_dict().items()] == REFERENCE["names"].tolist()


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("with_cp", [False, True])
def test_maps(name, with_cp):
    net = small(**NETS[name], with_cp=with_cp).eval()
    fill(net)
    for level, ours in enumerate(net(image().requires_grad_())):
        torch.testing.assert_close(ours, torch.from_numpy(REFERENCE[f"{name}_{level}"]), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NETS)
def test_every_parameter_has_a_gradient(name):
    net = small(**NETS[name], norm_eval=False)
    sum(level.square().sum() for level in net(image())).backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_deformable_convolutions_fall_back_where_they_have_a_stride():
    dcn = {"type": "DCNv2", "deform_groups": 1, "fallback_on_stride": True}
    net = small(dcn=dcn, stage_with_dcn=(False, False, True, True))
    kinds = [[type(block.convs[0]).__name__ for block in stage] for stage in (net.layer2, net.layer3)]
    assert kinds[0] == ["Conv2d"] * 4
    assert kinds[1] == ["Conv2d"] + ["ModulatedDeformConv2dPack"] * 5
    assert dcn == {"type": "DCNv2", "deform_groups": 1, "fallback_on_stride": True}


def test_frozen_stages_and_norms():
    net = small(frozen_stages=1).train()
    frozen = {name for name, parameter in net.named_parameters() if not parameter.requires_grad}
    assert {name.partition(".")[0] for name in frozen} == {"stem", "layer1"}
    assert not any(module.training for module in net.modules() if isinstance(module, nn.BatchNorm2d))


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"depth": 18}, r"backbone.depth must be one of 50, 101, 152, but got 18"),
        ({"scales": 1}, r"backbone.scales must be at least 2 .* but got 1"),
        ({"style": "caffe"}, r"backbone.style of a Res2Net is always 'pytorch'"),
        ({"deep_stem": False}, r"backbone.deep_stem of a Res2Net is always True"),
        ({"avg_down": False}, r"backbone.avg_down of a Res2Net is always True"),
    ],
)
def test_keys_that_do_not_fit_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        small(**keys)
