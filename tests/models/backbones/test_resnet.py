from __future__ import annotations

import copy
import math

import pytest
import torch
import torchvision
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from densehead.models import ResNet
from densehead.registry import MODELS

DCN = dict(type="DCN", deform_groups=1)
GN = dict(type="GN", num_groups=4)


def shapes(module: nn.Module) -> list[tuple[str, tuple[int, ...]]]:
    return [(name, tuple(value.shape)) for name, value in module.state_dict().items() if not name.startswith("fc.")]


def randomise(module: nn.Module, seed: int = 0) -> None:
    """Give norms weights, biases and statistics that are not those of the identity."""
    generator = torch.Generator().manual_seed(seed)
    for child in module.modules():
        if isinstance(child, _BatchNorm):
            for tensor in (child.weight, child.bias, child.running_mean):
                tensor.data.normal_(std=0.5, generator=generator)
            child.running_var.uniform_(0.5, 1.5, generator=generator)


def torchvision_maps(net: nn.Module, images: torch.Tensor) -> list[torch.Tensor]:
    x = net.maxpool(net.relu(net.bn1(net.conv1(images))))
    maps = []
    for stage in (net.layer1, net.layer2, net.layer3, net.layer4):
        x = stage(x)
        maps.append(x)
    return maps


@pytest.mark.parametrize("depth", [18, 34, 50, 101, 152])
def test_names_shapes_and_their_order_are_torchvisions(depth):
    with torch.device("meta"):
        reference = getattr(torchvision.models, f"resnet{depth}")()
        own = MODELS.build(dict(type="ResNet", depth=depth))
    assert shapes(own) == shapes(reference)


@pytest.mark.parametrize(("depth", "style"), [(18, "pytorch"), (18, "caffe"), (50, "pytorch"), (50, "caffe")])
def test_maps_equal_torchvisions(depth, style):
    reference = getattr(torchvision.models, f"resnet{depth}")().eval()
    randomise(reference)
    own = ResNet(depth, style=style).eval()
    own.load_state_dict({name: v for name, v in reference.state_dict().items() if not name.startswith("fc.")})
    if style == "caffe":  # the stride of a bottleneck stands in its first convolution
        for module in reference.modules():
            if isinstance(module, torchvision.models.resnet.Bottleneck):
                module.conv1.stride, module.conv2.stride = module.conv2.stride, module.conv1.stride
    images = torch.rand(1, 3, 70, 65)
    with torch.no_grad():
        for ours, theirs in zip(own(images), torchvision_maps(reference, images), strict=True):
            torch.testing.assert_close(ours, theirs)


def test_dilation_equals_torchvisions():
    reference = torchvision.models.resnet50(replace_stride_with_dilation=[False, False, True]).eval()
    own = ResNet(50, strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), out_indices=(3,)).eval()
    own.load_state_dict({name: v for name, v in reference.state_dict().items() if not name.startswith("fc.")})
    # torchvision leaves the first block of the stage undilated
    reference.layer4[0].conv2.dilation = reference.layer4[0].conv2.padding = (2, 2)
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(own(images)[0], torchvision_maps(reference, images)[-1])


def test_output_indices_and_sizes():
    net = ResNet(18, base_channels=8, out_indices=(1, 3))
    maps = net(torch.rand(2, 3, 65, 100))
    assert [tuple(level.shape) for level in maps] == [(2, 16, 9, 13), (2, 64, 3, 4)]


def test_stages_after_the_last_output_are_not_run():
    net = ResNet(18, base_channels=8, out_indices=(0,))
    net.layer2.register_forward_pre_hook(lambda *_: pytest.fail("layer2 was run"))
    net(torch.rand(1, 3, 32, 32))


def test_names_of_deep_stem_and_average_pooling():
    net = ResNet(50, base_channels=8, stem_channels=16, deep_stem=True, avg_down=True, num_stages=1, strides=(1,),
                 dilations=(1,), out_indices=(0,))  # fmt: skip
    names = shapes(net)
    convs = [(name, shape) for name, shape in names if len(shape) == 4]
    assert convs[:4] == [
        ("stem.0.weight", (8, 3, 3, 3)),
        ("stem.3.weight", (8, 8, 3, 3)),
        ("stem.6.weight", (16, 8, 3, 3)),
        ("layer1.0.conv1.weight", (8, 16, 1, 1)),
    ]
    assert ("layer1.0.downsample.1.weight", (32, 16, 1, 1)) in convs
    assert ("layer1.0.downsample.2.weight", (32,)) in names


def test_average_pooling_takes_the_stride_of_the_shortcut():
    net = ResNet(18, base_channels=8, avg_down=True).eval()
    block = net.layer2[0]
    nn.init.zeros_(block.bn2.weight)  # no branch
    x = torch.rand(1, 8, 5, 4)
    pooled = torch.stack([x[..., r : r + 2, c : c + 2].mean((-2, -1)) for r in (0, 2, 4) for c in (0, 2)], -1)
    weight = block.downsample[1].weight[:, :, 0, 0]
    expected = torch.einsum("oc,bcp->bop", weight, pooled).view(1, 16, 3, 2) / math.sqrt(1 + 1e-5)
    torch.testing.assert_close(block(x), expected.relu())


def test_group_norms_go_by_their_own_names():
    net = ResNet(50, base_channels=8, norm_cfg=GN, conv_cfg=dict(type="ConvWS"))
    names = dict(shapes(net))
    assert names["gn1.weight"] == (8,)
    assert names["layer4.2.gn3.bias"] == (256,)
    assert not [name for name in names if "bn" in name]
    assert type(net.layer1[0].conv2).__name__ == "ConvWS2d"


def test_deformable_convolution_without_offsets_is_the_plain_one():
    torch.manual_seed(0)
    plain = ResNet(50, base_channels=8).eval()
    randomise(plain)
    dcn = dict(DCN, fallback_on_stride=False)
    net = ResNet(50, base_channels=8, dcn=dcn, stage_with_dcn=(False, True, True, True)).eval()
    assert dcn == dict(DCN, fallback_on_stride=False)
    offsets = [name for name, _ in shapes(net) if "conv_offset" in name]
    assert len(offsets) == 2 * (4 + 6 + 3) and offsets[0] == "layer2.0.conv2.conv_offset.weight"  # noqa: PT018
    left_out = net.load_state_dict(plain.state_dict(), strict=False)
    assert left_out.missing_keys == offsets
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for ours, theirs in zip(net(images), plain(images), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_deformable_convolution_falls_back_where_there_is_a_stride():
    dcn = dict(dcn=dict(DCN, fallback_on_stride=True), stage_with_dcn=(False, True, False, False))
    net = ResNet(50, base_channels=8, **dcn)
    assert type(net.layer2[0].conv2) is nn.Conv2d
    assert all(hasattr(block.conv2, "conv_offset") for block in net.layer2[1:])
    caffe = ResNet(50, base_channels=8, style="caffe", **dcn)
    assert hasattr(caffe.layer2[0].conv2, "conv_offset")


@pytest.mark.parametrize("deep_stem", [False, True])
@pytest.mark.parametrize("frozen_stages", [-1, 0, 2, 4])
def test_frozen_stages_stay_frozen_and_the_rest_learns(frozen_stages, deep_stem):
    net = ResNet(18, base_channels=8, deep_stem=deep_stem, frozen_stages=frozen_stages, norm_eval=False)
    assert net.train() is net
    stem = {"stem"} if deep_stem else {"conv1", "bn1"}
    frozen = (stem if frozen_stages >= 0 else set()) | {f"layer{stage + 1}" for stage in range(frozen_stages)}
    before = copy.deepcopy(net.state_dict())
    sum(level.square().sum() for level in net(torch.rand(2, 3, 64, 64, requires_grad=True))).backward()
    for name, parameter in net.named_parameters():
        is_frozen = name.split(".")[0] in frozen
        assert parameter.requires_grad == (not is_frozen), name
        assert (parameter.grad is None) == is_frozen, name
        assert is_frozen or parameter.grad.abs().sum() > 0, name
    for name, module in net.named_modules():
        if isinstance(module, _BatchNorm):
            is_frozen = name.split(".")[0] in frozen
            assert module.training == (not is_frozen), name
            assert torch.equal(module.running_mean, before[f"{name}.running_mean"]) == is_frozen, name


def test_norm_eval_keeps_all_statistics_but_lets_weights_learn():
    net = ResNet(18, base_channels=8).train()
    norms = [module for module in net.modules() if isinstance(module, _BatchNorm)]
    assert net.training and net.layer1.training  # noqa: PT018
    assert not any(norm.training for norm in norms)
    assert all(norm.weight.requires_grad for norm in norms)
    net.eval()
    assert not net.layer1.training


def test_norms_without_gradient():
    net = ResNet(18, base_channels=8, norm_cfg=dict(type="BN", requires_grad=False))
    assert {name for name, p in net.named_parameters() if p.requires_grad} == {
        name for name, shape in shapes(net) if len(shape) == 4
    }


def test_recomputed_blocks_give_the_same_maps_and_gradients():
    plain = ResNet(50, base_channels=8)
    saving = ResNet(50, base_channels=8, with_cp=True)
    saving.load_state_dict(plain.state_dict())
    images = torch.rand(2, 3, 32, 32)
    grads = []
    for net in (plain, saving):
        maps = net(images)
        sum(level.square().sum() for level in maps).backward()
        grads.append([parameter.grad for parameter in net.parameters()])
    torch.testing.assert_close(saving(images), plain(images))
    torch.testing.assert_close(grads[1], grads[0])


@pytest.mark.parametrize(("depth", "last"), [(18, "bn2"), (50, "bn3")])
@pytest.mark.parametrize("zero", [True, False])
def test_residual_branches_start_at_zero(depth, last, zero):
    net = ResNet(depth, base_channels=8, zero_init_residual=zero)
    net.init_weights()
    for stage in (net.layer1, net.layer4):
        for block in stage:
            assert (getattr(block, last).weight == (0 if zero else 1)).all()
            assert (block.bn1.weight == 1).all()


def test_default_initialisation_is_kaimings_over_the_outputs():
    torch.manual_seed(0)
    net = ResNet(18, base_channels=32)
    net.init_weights()
    weight = net.layer3[0].conv2.weight  # fan out: 128 channels x 3 x 3
    assert weight.std().item() == pytest.approx(math.sqrt(2 / (128 * 9)), rel=0.02)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(depth=20), r"backbone\.depth must be one of 18, 34, 50, 101, 152, but got 20"),
        (dict(num_stages=5), r"backbone\.num_stages must be 1 to 4, but got 5"),
        (dict(num_stages=3), r"backbone\.strides must have one entry per stage \(backbone\.num_stages=3\)"),
        (dict(dilations=(1, 1)), r"backbone\.dilations must have one entry per stage"),
        (dict(dcn=DCN, depth=50, stage_with_dcn=(True,)), r"backbone\.stage_with_dcn must have one entry"),
        (dict(out_indices=(0, 4)), r"backbone\.out_indices must lie in 0 to 3"),
        (dict(out_indices=()), r"backbone\.out_indices must lie in 0 to 3"),
        (dict(frozen_stages=5), r"backbone\.frozen_stages must be -1 to 4, but got 5"),
        (dict(style="tensorflow"), r"backbone\.style must be 'pytorch' or 'caffe', but got 'tensorflow'"),
        (dict(dcn=DCN, stage_with_dcn=(True,) * 4), r"backbone\.dcn needs the bottleneck blocks"),
        (dict(depth=50, dcn=DCN, conv_cfg=dict(type="ConvWS")), r"backbone\.dcn and backbone\.conv_cfg exclude"),
        (dict(plugins=[dict(cfg=dict(type="ContextBlock"))]), r"backbone\.plugins are not supported"),
        (dict(pretrained="a.pth", init_cfg=dict(type="Kaiming")), r"backbone\.pretrained and backbone\.init_cfg"),
    ],
)
def test_keys_that_do_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        ResNet(**{"depth": 18, "base_channels": 8, **change})
