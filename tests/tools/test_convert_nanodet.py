"""tools/convert_nanodet.py: from the official files to a detector that puts out the official numbers."""

import importlib.util
import os
import sys
from types import ModuleType

import pytest
import torch
from mmengine.config import Config

from densehead.apis.nanodet import convert_checkpoint, convert_weights
from densehead.registry import MODELS
from tests import golden
from tests.engine.tiny import ROOT
from tests.models.heads import nanodet


@pytest.fixture(scope="module")
def reference():
    return golden.load("nanodet_plus_detector")


@pytest.fixture(scope="module")
def official(reference):
    return nanodet.formula(reference[0]["names"])


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Return a function that calls the tool in this process: its exit code and what it said."""
    monkeypatch.chdir(tmp_path)
    spec = importlib.util.spec_from_file_location("convert_nanodet", ROOT / "tools" / "convert_nanodet.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["convert_nanodet.py", *map(str, args)])
        code = tool.main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def twins(weights):
    """Return the state dict of the training task: the trained weights (here moved by one) and their average."""
    return {f"model.{name}": value + 1 for name, value in weights.items()} | {
        f"avg_model.{name}": value for name, value in weights.items()
    }


@pytest.fixture
def lightning(monkeypatch):
    """Return a class of a module that is not there when its objects are read again, as a callback of Lightning."""
    module = ModuleType("pytorch_lightning_of_old")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    module.Callback = type("Callback", (), {"__module__": module.__name__, "state": None})
    return module.Callback


def test_a_lightning_checkpoint_end_to_end(tmp_path, call, reference, official, lightning):
    callback = lightning()
    callback.state = {"best": torch.ones(2)}
    checkpoint = {
        "epoch": 299,
        "global_step": 1,
        "pytorch-lightning_version": "1.3.8",
        "state_dict": twins(official),
        "callbacks": {lightning: {"best": 0.27}, "other": callback},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.zeros(2)}}}],
    }
    torch.save(checkpoint, tmp_path / "official.ckpt")
    del sys.modules[lightning.__module__]
    Config(dict(model=nanodet.detector_config())).dump(tmp_path / "nanodet.py")
    code, said, error = call("official.ckpt", "made/ours.pth", "--config", "nanodet.py")
    assert (code, error) == (0, "")
    assert said == "made/ours.pth: 875 parameters and buffers, as the config has them\n"

    detector = MODELS.build(nanodet.detector_config()).eval()
    detector.load_state_dict(torch.load(tmp_path / "made/ours.pth", weights_only=True)["state_dict"], strict=True)
    with torch.no_grad():
        maps = detector(nanodet.formula_image(*reference[0]["image_size"]))
    golden.assert_close(nanodet.official_form(maps), reference[1]["preds"], relative=2e-4, name="preds")


def test_trained_weights_on_request(tmp_path, call, official):
    torch.save({"state_dict": twins(official)}, tmp_path / "official.ckpt")
    assert call("official.ckpt", "ours.pth", "--trained")[0] == 0
    weights = torch.load(tmp_path / "ours.pth", weights_only=True)["state_dict"]
    name = "head.gfl_cls.0.bias"
    assert torch.equal(weights[f"bbox_{name}"], official[name] + 1)


def test_no_auxiliary_parts_on_request(tmp_path, call, official):
    torch.save({"state_dict": official}, tmp_path / "official.pth")
    Config(dict(model=nanodet.detector_config())).dump(tmp_path / "nanodet.py")
    assert call("official.pth", "ours.pth", "--no-auxiliary", "--config", "nanodet.py")[0] == 0
    weights = torch.load(tmp_path / "ours.pth", weights_only=True)["state_dict"]
    assert {name.partition(".")[0] for name in weights} == {"backbone", "neck", "bbox_head"}


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "avg_model."])
@pytest.mark.parametrize("wrapped", [True, False])
def test_other_forms_of_official_files(tmp_path, official, prefix, wrapped):
    weights = {prefix + name: value for name, value in official.items()}
    torch.save({"state_dict": weights} if wrapped else weights, tmp_path / "official.pth")
    made = convert_checkpoint(tmp_path / "official.pth", tmp_path / "ours.pth")
    assert {name: value.shape for name, value in made.items()} == {
        name: value.shape for name, value in MODELS.build(nanodet.detector_config()).state_dict().items()
    }


class Malicious:
    def __init__(self, function):
        self.function = function

    def __reduce__(self):
        return self.function, ("attacked",)


def write_not_a_checkpoint(path, official):
    path.write_bytes(b"Not a checkpoint")


def write_cut_off(path, official):
    torch.save(official, path)
    path.write_bytes(path.read_bytes()[:5000])


def write_malicious(path, official):
    torch.save({"state_dict": official, "callbacks": Malicious(os.mkdir)}, path)


def write_densehead(path, official):
    torch.save({"state_dict": convert_weights(official)}, path)


def write_older_nanodet(path, official):
    names = ("backbone.conv1.0.weight", "fpn.lateral_convs.0.conv.weight", "head.gfl_reg.0.weight")
    torch.save(dict.fromkeys(names, torch.ones(1)), path)


def write_backbone(path, official):
    torch.save({"conv1.0.weight": torch.ones(1), "stage2.0.branch1.0.weight": torch.ones(1)}, path)


def write_empty(path, official):
    torch.save({"state_dict": {}}, path)


def write_no_tensors(path, official):
    torch.save({"state_dict": {"backbone.conv1": "text"}}, path)


BAD_FILES = [
    (write_not_a_checkpoint, r"official\.ckpt cannot be read as weights"),
    (write_cut_off, r"official\.ckpt cannot be read as weights"),
    (write_malicious, r"official\.ckpt cannot be read as weights"),
    (write_densehead, r"official\.ckpt: no checkpoint of the official NanoDet-Plus: .*needs no conversion"),
    (write_older_nanodet, r"official\.ckpt: this is a checkpoint of NanoDet 0\.x, not of NanoDet-Plus"),
    (write_backbone, r"official\.ckpt: no checkpoint .* begin with conv1, stage2, expected backbone, fpn, head"),
    (write_empty, r"official\.ckpt: no checkpoint of the official NanoDet-Plus: it is empty"),
    (write_no_tensors, r"official\.ckpt holds no state dict"),
]


@pytest.mark.parametrize(("write", "match"), BAD_FILES)
def test_files_that_are_none(tmp_path, call, official, write, match):
    write(tmp_path / "official.ckpt", official)
    code, _, error = call("official.ckpt", "ours.pth")
    assert code == 2
    assert len(error.splitlines()) == 1
    with pytest.raises(ValueError, match=match):
        convert_checkpoint("official.ckpt", "ours.pth")
    assert not (tmp_path / "ours.pth").exists()
    assert not (tmp_path / "attacked").exists()


def test_code_in_a_file_does_not_run(tmp_path, call, official):
    torch.save({"state_dict": official, "callbacks": Malicious(make_folder)}, tmp_path / "official.ckpt")
    code, _, error = call("official.ckpt", "ours.pth")
    assert code == 2
    assert "make_folder, which could run code of the file" in error
    assert not (tmp_path / "attacked").exists()


def make_folder(name):
    os.mkdir(name)


def test_a_file_that_is_not_there(call):
    code, _, error = call("official.ckpt", "ours.pth")
    assert (code, error) == (2, "error: the official checkpoint: there is no checkpoint official.ckpt\n")


def test_the_official_file_stays(tmp_path, call, official):
    torch.save(official, tmp_path / "official.pth")
    code, _, error = call("official.pth", tmp_path / "official.pth")
    assert code == 2
    assert "would be overwritten" in error


def test_a_config_of_another_model(tmp_path, call, official):
    torch.save(official, tmp_path / "official.pth")
    model = nanodet.detector_config()
    model["bbox_head"]["num_classes"] = 6
    Config(dict(model=model)).dump(tmp_path / "nanodet.py")
    code, _, error = call("official.pth", "ours.pth", "--config", "nanodet.py")
    assert code == 2
    assert "is a checkpoint of another model than that of the config: it has" in error
    assert "bbox_head.gfl_cls.0.weight (37, 16, 1, 1) there, (38, 16, 1, 1) here" in error
    assert not (tmp_path / "ours.pth").exists()
