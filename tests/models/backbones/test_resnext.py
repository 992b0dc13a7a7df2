import pytest
import torch
import torchvision

from densehead.models import ResNeXt


@pytest.mark.parametrize(
    ("depth", "groups", "base_width", "reference"),
    [(50, 32, 4, "resnext50_32x4d"), (101, 32, 8, "resnext101_32x8d"), (101, 64, 4, "resnext101_64x4d")],
)
def test_parameters_equal_torchvisions(depth, groups, base_width, reference):
    with torch.device("meta"):
        mine = ResNeXt(depth=depth, groups=groups, base_width=base_width).state_dict()
        theirs = getattr(torchvision.models, reference)().state_dict()
    shapes = {name: value.shape for name, value in theirs.items() if not name.startswith("fc.")}
    assert {name: value.shape for name, value in mine.items()} == shapes


def test_maps_equal_torchvisions():
    theirs = torchvision.models.resnext50_32x4d().eval()
    mine = ResNeXt(depth=50, groups=32, base_width=4, out_indices=(3,)).eval()
    mine.load_state_dict({name: value for name, value in theirs.state_dict().items() if not name.startswith("fc.")})
    image = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        x = theirs.maxpool(theirs.relu(theirs.bn1(theirs.conv1(image))))
        expected = theirs.layer4(theirs.layer3(theirs.layer2(theirs.layer1(x))))
        torch.testing.assert_close(mine(image)[0], expected)


def test_shallow_depths_are_refused():
    with pytest.raises(ValueError, match=r"depth must be 50, 101 or 152, but got 18"):
        ResNeXt(depth=18)
