from __future__ import annotations

import os
import zipfile
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
import torchvision
from mmengine.logging import HistoryBuffer

from densehead.models import ResNet
from densehead.models.backbones.pretrained import read_weights


def small(**kwargs) -> ResNet:
    return ResNet(18, base_channels=8, **kwargs)


def pretrained(path, **kwargs) -> ResNet:
    net = small(init_cfg=dict(type="Pretrained", checkpoint=str(path), **kwargs))
    net.init_weights()
    return net


@pytest.fixture
def weights() -> dict[str, torch.Tensor]:
    return small().state_dict()


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(torch.hub, "_hub_dir", None)
    return tmp_path / "hub" / "checkpoints"


@pytest.mark.parametrize("wrap", ["plain", "state_dict", "model", "parallel"])
def test_a_local_file(tmp_path, weights, wrap):
    content = {
        "plain": weights,
        "state_dict": {"meta": {"epoch": 3}, "state_dict": weights},
        "model": {"model": weights},
        "parallel": {f"module.{name}": value for name, value in weights.items()},
    }[wrap]
    torch.save(content, tmp_path / "net.pth")
    torch.testing.assert_close(dict(pretrained(tmp_path / "net.pth").state_dict()), dict(weights), rtol=0, atol=0)


@pytest.mark.parametrize("prefix", ["backbone", "backbone."])
def test_a_part_of_a_file(tmp_path, weights, prefix):
    detector = {f"backbone.{name}": value for name, value in weights.items()} | {"neck.weight": torch.rand(3)}
    torch.save({"state_dict": detector}, tmp_path / "net.pth")
    net = pretrained(tmp_path / "net.pth", prefix=prefix)
    torch.testing.assert_close(dict(net.state_dict()), dict(weights), rtol=0, atol=0)


def test_the_older_key(tmp_path, weights):
    torch.save(weights, tmp_path / "net.pth")
    net = small(pretrained=str(tmp_path / "net.pth"))
    net.init_weights()
    torch.testing.assert_close(net.conv1.weight, weights["conv1.weight"])


def test_other_initialisers_run_before_it(tmp_path, weights):
    del weights["conv1.weight"]
    torch.save(weights, tmp_path / "net.pth")
    constant = dict(type="Constant", layer="Conv2d", val=0.5)
    cfg = [dict(type="Pretrained", checkpoint=str(tmp_path / "net.pth")), constant]
    net = small(init_cfg=cfg)
    net.init_weights()
    assert (net.conv1.weight == 0.5).all()
    torch.testing.assert_close(net.layer1[0].conv1.weight, weights["layer1.0.conv1.weight"])
    assert net.init_cfg == cfg


def test_weights_are_loaded_once(tmp_path, weights):
    torch.save(weights, tmp_path / "net.pth")
    net = pretrained(tmp_path / "net.pth")
    torch.nn.init.zeros_(net.conv1.weight)
    net.init_weights()
    assert (net.conv1.weight == 0).all()


def test_a_torchvision_name_is_downloaded_once_into_torchs_cache(cache, monkeypatch, weights):
    asked = []

    def download(url, target, progress):
        asked.append(url)
        torch.save(weights | {"fc.weight": torch.rand(10, 3)}, target)

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    for _ in range(2):
        net = pretrained("torchvision://resnet18")
        torch.testing.assert_close(net.conv1.weight, weights["conv1.weight"])
    assert asked == [torchvision.models.ResNet18_Weights.IMAGENET1K_V1.url]
    assert [path.name for path in cache.iterdir()] == ["resnet18-f37072fd.pth"]


@pytest.mark.parametrize(
    ("checkpoint", "address"),
    [
        ("torchvision://resnet50", "download.pytorch.org/models/resnet50-0676ba61.pth"),
        ("torchvision://resnet50.imagenet1k_v2", "download.pytorch.org/models/resnet50-11ad3fa6.pth"),
        ("torchvision://ResNet50_Weights.IMAGENET1K_V1", "download.pytorch.org/models/resnet50-0676ba61.pth"),
        ("open-mmlab://detectron2/resnet50_caffe", "/resnet50_msra-5891d200.pth"),
        ("open-mmlab://resnet50_caffe", "/resnet50_caffe-788b5fa3.pth"),  # a name of before
        ("https://example.org/weights/net.pth", "https://example.org/weights/net.pth"),
    ],
)
def test_an_address_out_of_reach_is_one_clear_error(cache, monkeypatch, checkpoint, address):
    def download(url, target, progress):
        raise URLError("Name or service not known")

    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    with pytest.raises(ConnectionError) as caught:
        pretrained(checkpoint)
    message = str(caught.value)
    assert message.startswith(f"backbone.init_cfg asks for {checkpoint!r}, but ")
    assert f"{address} cannot be fetched (<urlopen error Name or service not known>)" in message
    assert str(cache / address.rpartition("/")[2]) in message
    assert "after --cfg-options: model.backbone.init_cfg.checkpoint=/path/to/file.pth;" in message
    assert message.endswith("or train from scratch: model.backbone.init_cfg=None")
    assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("checkpoint", "error", "message"),
    [
        ("no/such.pth", FileNotFoundError, r"backbone\.init_cfg: there is no checkpoint file 'no/such\.pth'"),
        ("torchvision://resnet5", ValueError, r"torchvision://resnet5 is not known. Did you mean 'resnet50'"),
        ("torchvision://resnet50.v3", ValueError, r"torchvision://resnet50\.v3 is not known.*imagenet1k_v1"),
        ("open-mmlab://resnet50", ValueError, r"open-mmlab://resnet50 is not known. Did you mean '.*resne"),
        ("ftp://x/y.pth", ValueError, r"must be a local file or begin with torchvision://.*but got 'ftp://x/y\.pth'"),
    ],
)
def test_a_checkpoint_that_is_not_there(checkpoint, error, message):
    with pytest.raises(error, match=message):
        pretrained(checkpoint)


@pytest.mark.parametrize("content", ["whole detector", "other width"])
def test_a_checkpoint_of_another_architecture(tmp_path, weights, content):
    other = {
        "whole detector": {f"backbone.{name}": value for name, value in weights.items()},
        "other width": ResNet(18, base_channels=16).state_dict(),
    }[content]
    torch.save(other, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=r"backbone\.init_cfg: .*net\.pth' is a checkpoint of another architecture: it "
                       r"holds 0 of the 100 tensors of this ResNet"):  # fmt: skip
        pretrained(tmp_path / "net.pth")


def test_a_prefix_that_the_file_does_not_have(tmp_path, weights):
    torch.save(weights, tmp_path / "net.pth")
    with pytest.raises(ValueError, match=r"begins with prefix='backbone\.'; its names begin with bn1, conv1, layer1"):
        pretrained(tmp_path / "net.pth", prefix="backbone")


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", "half"])
def test_a_damaged_file(tmp_path, weights, content):
    path = tmp_path / "net.pth"
    torch.save(weights, path)
    path.write_bytes(path.read_bytes()[:5000] if content == "half" else content)
    with pytest.raises(ValueError, match=r"net\.pth cannot be read as weights .*If it is damaged, fetch it again"):
        pretrained(path)


def test_a_file_that_is_no_state_dict(tmp_path):
    torch.save([torch.rand(2)], tmp_path / "net.pth")
    with pytest.raises(ValueError, match=r"holds no state dict \(names with tensors\), but a list"):
        read_weights(tmp_path / "net.pth")


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_no_code_of_a_file_is_run(tmp_path, weights, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": weights, "meta": Harmful()}, "net.pth")
    with pytest.raises(ValueError, match=r"convert it once: torch\.save"):
        read_weights("net.pth")
    assert not Path("harm").exists()


@pytest.mark.skipif(not hasattr(torch.serialization, "safe_globals"), reason="needs a newer safe reader")
@pytest.mark.parametrize("numpy_1", [False, True])
def test_checkpoints_of_a_runner_are_read(tmp_path, weights, numpy_1):
    buffer = HistoryBuffer([0.5, 0.25], [1, 1])
    hub = {"log_scalars": {"loss": buffer}, "runtime_info": {"best": np.float64(0.3)}}
    written = tmp_path / "written.pth"
    torch.save({"state_dict": weights, "message_hub": hub}, written)
    path = tmp_path / "read.pth"
    with zipfile.ZipFile(written) as source, zipfile.ZipFile(path, "w") as target:
        for item in source.namelist():
            content = source.read(item)
            if item.endswith("data.pkl") and numpy_1:
                assert b"numpy._core" in content or np.__version__.startswith("1.")
                content = content.replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
            target.writestr(item, content)
    assert read_weights(path).keys() == weights.keys()
