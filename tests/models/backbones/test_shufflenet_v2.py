import pytest
import torch
import torchvision

from densehead.models import ShuffleNetV2
from densehead.models.backbones.shufflenet_v2 import CHANNELS

LEAKY_RELU = dict(type="LeakyReLU", negative_slope=0.1)
WIDTHS = {0.5: "x0_5", 1.0: "x1_0", 1.5: "x1_5", 2.0: "x2_0"}


def without_classifier(state):
    return {name: value for name, value in state.items() if not name.startswith(("conv5.", "fc."))}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("act_cfg", [dict(type="ReLU"), LEAKY_RELU], ids=lambda cfg: cfg["type"])
def test_parameters_equal_torchvisions(width, act_cfg):
    with torch.device("meta"):
        ours = ShuffleNetV2(width, act_cfg=act_cfg).state_dict()
        theirs = getattr(torchvision.models, f"shufflenet_v2_{WIDTHS[width]}")().state_dict()
    assert [(name, value.shape) for name, value in ours.items()] == [
        (name, value.shape) for name, value in without_classifier(theirs).items()
    ]


@pytest.mark.parametrize("out_indices", [(0, 1, 2), (2,), (0, 2)])
def test_maps_equal_torchvisions(out_indices):
    theirs = torchvision.models.shufflenet_v2_x0_5().eval()
    ours = ShuffleNetV2(0.5, out_indices=out_indices).eval()
    ours.load_state_dict(without_classifier(theirs.state_dict()))
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        x = theirs.maxpool(theirs.conv1(image))
        expected = [x := stage(x) for stage in (theirs.stage2, theirs.stage3, theirs.stage4)]
        maps = ours(image)
    assert len(maps) == len(out_indices)
    for index, level in zip(out_indices, maps):
        torch.testing.assert_close(level, expected[index])
        assert level.shape[1:] == (CHANNELS[0.5][index], 64 // 8 // 2**index, 96 // 8 // 2**index)


def test_activation():
    network = ShuffleNetV2(0.5, act_cfg=LEAKY_RELU)
    kinds = [module for module in network.modules() if isinstance(module, torch.nn.ReLU | torch.nn.LeakyReLU)]
    assert {type(module) for module in kinds} == {torch.nn.LeakyReLU}
    assert {module.negative_slope for module in kinds} == {0.1}
    assert len(kinds) == 1 + 3 * 3 + 2 * (3 + 7 + 3)  # the stem, three in a block that halves, two in the others


def test_frozen_stages():
    network = ShuffleNetV2(0.5, frozen_stages=1).train()
    network(torch.randn(2, 3, 64, 64))[-1].sum().backward()
    frozen = {name.partition(".")[0] for name, parameter in network.named_parameters() if parameter.grad is None}
    assert frozen == {"conv1", "stage2"}
    assert not network.stage2[0].branch1[1].training
    assert network.stage3[0].branch1[1].training


def test_norms_may_stay_in_eval_mode():
    network = ShuffleNetV2(0.5, norm_eval=True).train()
    norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert norms
    assert not any(module.training for module in norms)


def test_pretrained(tmp_path):
    theirs = torchvision.models.shufflenet_v2_x0_5()
    torch.save(theirs.state_dict(), tmp_path / "shufflenet.pth")
    network = ShuffleNetV2(0.5, init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "shufflenet.pth")))
    network.init_weights()
    loaded = network.state_dict()
    for name, value in without_classifier(theirs.state_dict()).items():
        assert torch.equal(loaded[name], value), name


@pytest.mark.parametrize(
    ("options", "match"),
    [
        (dict(widen_factor=0.75), r"widen_factor must be one of 0.5, 1.0, 1.5, 2.0, but got 0.75"),
        (dict(out_indices=(1, 2, 3)), r"out_indices must be some of 0, 1 and 2, but got \(1, 2, 3\)"),
        (dict(out_indices=()), r"out_indices must be some of 0, 1 and 2, but got \(\)"),
        (dict(frozen_stages=4), r"frozen_stages must be -1 to 3, but got 4"),
    ],
)
def test_bad_settings(options, match):
    with pytest.raises(ValueError, match=match):
        ShuffleNetV2(**options)
