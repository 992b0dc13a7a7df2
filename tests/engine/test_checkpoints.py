import logging
import os
import re
import sys
from collections import OrderedDict
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import HistoryBuffer, MMLogger

from densehead import safe_load
from densehead.apis import build_runner, evaluate, init_detector, prepare_test, prepare_training, train
from densehead.engine import checkpoints
from densehead.engine.checkpoints import load_for, rename_parameters
from densehead.registry import MODELS
from densehead.safe_load import read_checkpoint
from tests.engine.tiny import tiny_config

DEFORMABLE = {"model.backbone.depth": 50, "model.backbone.dcn": {"type": "DCNv2", "deform_groups": 1}}
OF_RESNET_50 = {"model.neck.in_channels": [32, 64, 128, 256], "model.bbox_head.dcn_on_last_conv": True}


@pytest.fixture(scope="module")
def deformable(tmp_path_factory):
    """A detector with deformable convolutions in a stage and in its head."""
    cfg = tiny_config(tmp_path_factory.mktemp("deformable"))
    cfg.merge_from_dict({**DEFORMABLE, **OF_RESNET_50})
    cfg.model.backbone.stage_with_dcn = (False, False, False, True)
    cfg.model.backbone.init_cfg = None
    return MODELS.build(cfg.model)


def of_old(state):
    """Return a state dict under the names that mmdetection had for it before 2.2 (and mmcv before 0.2)."""
    names = {name: re.sub(r"\.conv_(cls|reg|centerness)\.", r".fcos_\1.", name) for name in state}
    names = {name: re.sub(r"\.conv_offset\.(\w+)$", r"_offset.\1", old) for name, old in names.items()}
    return OrderedDict((old, state[name].clone()) for name, old in names.items())


def test_names_of_old_versions(deformable):
    state = deformable.state_dict()
    old = of_old(state)
    changed = set(old) - set(state)
    expected = {
        "bbox_head.fcos_cls.weight": "bbox_head.conv_cls.weight",
        "bbox_head.fcos_centerness.bias": "bbox_head.conv_centerness.bias",
        "backbone.layer4.2.conv2_offset.weight": "backbone.layer4.2.conv2.conv_offset.weight",
        "bbox_head.cls_convs.0.conv_offset.bias": "bbox_head.cls_convs.0.conv.conv_offset.bias",
    }
    assert expected.keys() <= changed
    checkpoint = {"state_dict": old}
    renamed, left_out = rename_parameters(deformable, checkpoint)
    assert expected.items() <= dict(renamed).items()
    assert ({name for name, _ in renamed}, left_out) == (changed, [])
    assert checkpoint["state_dict"].keys() == state.keys()
    deformable.load_state_dict(checkpoint["state_dict"], strict=True)
    assert rename_parameters(deformable, checkpoint) == ([], [])


def test_every_name_of_today_stays(deformable):
    state = dict(deformable.state_dict())
    before = list(state)
    assert rename_parameters(deformable, state) == ([], [])
    assert list(state) == before


def test_averages_among_the_buffers_are_left_out(deformable):
    state = deformable.state_dict()
    averages = {"ema_" + name.replace(".", "_"): torch.zeros(1) for name in state}
    checkpoint = {"state_dict": {f"module.{name}": value for name, value in {**of_old(state), **averages}.items()}}
    of_old_names = {"ema_" + name.replace(".", "_"): torch.zeros(1) for name in of_old(state)}
    checkpoint["state_dict"].update({f"module.{name}": value for name, value in of_old_names.items()})
    renamed, left_out = rename_parameters(deformable, checkpoint)
    assert renamed
    assert set(left_out) == set(of_old_names)
    weights = {name.removeprefix("module."): value for name, value in checkpoint["state_dict"].items()}
    assert set(state) <= set(weights)
    assert all(torch.equal(weights[name], value) for name, value in state.items())


def test_head_of_a_first_stage(deformable):
    state = deformable.state_dict()
    stage = {name.replace("bbox_head.", "rpn_head."): value for name, value in state.items()}
    rename_parameters(deformable, stage)
    assert stage.keys() == state.keys()
    both = {**state, **{name.replace("bbox_head.", "rpn_head."): value for name, value in state.items()}}
    assert rename_parameters(deformable, both) == ([], [])  # the head of a second stage is the head


def test_a_name_is_taken_only_where_the_model_has_it(deformable):
    strange = {"backbone.layer1.0.conv2_offset.weight": torch.zeros(1), "head.fcos_cls.weight": torch.zeros(1)}
    assert rename_parameters(deformable, dict(strange)) == ([], [])


# ---- loading -------------------------------------------------------------------------------------------------------


class RecordList(logging.Handler):
    def __init__(self):
        super().__init__()
        self.lines = []

    def emit(self, record):
        self.lines.append(record.getMessage())


@pytest.fixture
def log():
    """What the current logger says."""
    handler = RecordList()
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield handler.lines
    logger.removeHandler(handler)


def old_checkpoint(cfg, path, **more):
    """Write a checkpoint as mmdetection 2.x did: its names, its meta data, no message hub."""
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    meta = {"CLASSES": tuple("0123456789"), "mmdet_version": "2.1.0", "epoch": 12, "iter": 100, "config": "model = {}"}
    content = {"meta": meta, "state_dict": of_old(model.state_dict()), "optimizer": {"state": {}}, **more}
    torch.save(content, path, _use_new_zipfile_serialization=False)  # as the files of its model zoo are
    return model.state_dict()


def test_old_checkpoints_are_tested_started_from_and_not_resumed(tmp_path, data_root):
    cfg = tiny_config(tmp_path, data_root)
    cfg.train_cfg.max_epochs = 1
    path = str(tmp_path / "old.pth")
    state = old_checkpoint(cfg, path)
    metrics = evaluate(prepare_test(tiny_config(tmp_path / "test", data_root), path))
    assert "coco/bbox_mAP" in metrics

    runner = build_runner(prepare_training(tiny_config(tmp_path, data_root, load_from=path)))
    runner.load_or_resume()
    assert all(torch.equal(value, state[name]) for name, value in runner.model.state_dict().items())
    text = Path(runner.log_dir, f"{runner.timestamp}.log").read_text()
    assert text.count("old.pth has names of an older version; 6 are renamed:") == 1
    assert text.count("  bbox_head.fcos_cls.weight -> bbox_head.conv_cls.weight") == 1

    runner = build_runner(prepare_training(tiny_config(tmp_path, data_root), resume=path))
    with pytest.raises(ValueError, match=r"old\.pth is a checkpoint of mmdetection 2\.x: .* cannot be resumed from it"):
        runner.train()
    torch.save({"state_dict": state}, tmp_path / "weights.pth")
    runner = build_runner(prepare_training(tiny_config(tmp_path, data_root), resume=str(tmp_path / "weights.pth")))
    with pytest.raises(ValueError, match=r"is a checkpoint of weights alone: .* set load_from"):
        runner.train()


def test_old_checkpoints_in_programs(tmp_path, data_root, log):
    cfg = tiny_config(tmp_path, data_root)
    state = old_checkpoint(cfg, tmp_path / "old.pth")
    model = init_detector(cfg, str(tmp_path / "old.pth"))
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert model.dataset_meta == {"classes": tuple("0123456789")}
    assert sum("6 are renamed" in line for line in log) == 1


def test_meta_data_of_release_candidates(tmp_path):
    model = torch.nn.Linear(2, 2)
    meta = {"dataset_meta": {"CLASSES": ("a",), "PALETTE": [(1, 2, 3)]}}
    torch.save({"state_dict": model.state_dict(), "meta": meta}, tmp_path / "one.pth")
    loaded = load_for(model, str(tmp_path / "one.pth"))
    assert loaded["meta"]["dataset_meta"] == {"classes": ("a",), "palette": [(1, 2, 3)]}


def test_a_flipped_bit_of_a_weight_is_not_loaded(deformable, tmp_path):
    path = tmp_path / "best.pth"
    state = deformable.state_dict()
    torch.save({"state_dict": state}, path)
    content = bytearray(path.read_bytes())
    content[content.index(state["backbone.conv1.weight"].numpy().tobytes()) + 41] ^= 4
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"load_from: .*best\.pth is damaged .*does not match its checksum.*Fetch it"):
        load_for(deformable, str(path))


def test_file_systems_and_addresses(tmp_path, monkeypatch):
    model = torch.nn.Linear(2, 2)
    torch.save(model.state_dict(), tmp_path / "one.pth")
    content = (tmp_path / "one.pth").read_bytes()
    monkeypatch.setattr(checkpoints.fileio, "get", lambda file: content)
    assert load_for(model, "s3://bucket/one.pth").keys() == {"weight", "bias"}

    def unreachable(*args, **kwargs):
        raise OSError("no route")

    monkeypatch.setattr(torch.hub, "download_url_to_file", unreachable)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))
    with pytest.raises(ConnectionError, match=r"^load_from: https://host/a\.pth cannot be .* \(no route\)"):
        load_for(model, "https://host/a.pth")


def test_file_that_holds_something_else(tmp_path):
    torch.save([torch.zeros(2)], tmp_path / "list.pth")
    with pytest.raises(ValueError, match=r"list\.pth must hold a dict with a state_dict, but holds a list"):
        load_for(torch.nn.Linear(2, 2), str(tmp_path / "list.pth"))


# ---- the reader ----------------------------------------------------------------------------------------------------


@pytest.fixture
def foreign(monkeypatch):
    """Return a function that makes classes of modules that are not there when the file is read."""
    added = []

    def make(module, name, **body):
        parts = module.split(".")
        for parent in (".".join(parts[:end]) for end in range(1, len(parts) + 1)):
            if parent not in sys.modules:
                sys.modules[parent] = ModuleType(parent)
                added.append(parent)
        kind = type(name, body.pop("bases", ()), {"__module__": module, "__qualname__": name, **body})
        setattr(sys.modules[module], name, kind)
        return kind

    make.forget = lambda: [sys.modules.pop(name, None) for name in added]
    yield make
    make.forget()


@pytest.fixture(params=["of PyTorch", "of old PyTorch"])
def reader(request, monkeypatch):
    if request.param == "of old PyTorch":
        monkeypatch.setattr(safe_load, "parse_version", lambda text: (2, 1))
    elif safe_load.parse_version(torch.__version__) < (2, 6):
        pytest.skip("an older PyTorch")


@pytest.mark.parametrize("zipped", [True, False])
def test_objects_of_runners_and_configs(tmp_path, foreign, reader, zipped):
    old_dict = foreign("mmcv.utils.config", "ConfigDict", bases=(dict,), __setstate__=lambda self, state: None)
    old_config = foreign("mmcv.utils.config", "Config")()
    old_config.__dict__["_cfg_dict"] = {"a": 1}
    box = foreign("mmdet.core.bbox.structures", "Boxes")()
    content = {
        "state_dict": OrderedDict(weight=torch.ones(2)),
        "meta": {
            "config": Config({"model": {"type": "FCOS"}}),
            "metainfo": ConfigDict(classes=("a",), nested={"b": [1]}),
            "theirs": old_dict(a=1),
            "whole": old_config,
            "boxes": [box, box],
            "where": Path("some") / "where",
        },
        "message_hub": {"log_scalars": {"loss": HistoryBuffer([0.5], [1])}, "best": np.float64(0.3), "n": np.int32(2)},
    }
    torch.save(content, tmp_path / "one.pth", _use_new_zipfile_serialization=zipped)
    foreign.forget()
    loaded = read_checkpoint(tmp_path / "one.pth")
    assert torch.equal(loaded["state_dict"]["weight"], torch.ones(2))
    meta = loaded["meta"]
    assert (type(meta["metainfo"]), meta["metainfo"]["classes"], meta["theirs"]) == (OrderedDict, ("a",), {"a": 1})
    assert meta["metainfo"]["nested"]["b"] == [1]
    assert str(meta["where"]) == os.path.join("some", "where")
    assert loaded["message_hub"]["log_scalars"]["loss"].mean() == 0.5
    assert (loaded["message_hub"]["best"], loaded["message_hub"]["n"]) == (0.3, 2)


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


@pytest.mark.parametrize("zipped", [True, False])
def test_no_code_of_a_file_is_run(tmp_path, data_root, monkeypatch, reader, zipped):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "meta": Harmful()}, "bad.pth", _use_new_zipfile_serialization=zipped)
    match = r"bad\.pth cannot be read as weights: it holds a \w+\.mkdir, which could run code .* convert it once: torch"
    with pytest.raises(ValueError, match="checkpoint: " + match):
        read_checkpoint("bad.pth")
    with pytest.raises(ValueError, match="checkpoint: " + match):
        init_detector(tiny_config(tmp_path, data_root), "bad.pth")
    assert not Path("harm").exists()


def test_a_runner_runs_no_code_of_a_file(tmp_path, data_root, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": {}, "meta": Harmful()}, "bad.pth")
    with pytest.raises(ValueError, match=r"load_from: bad\.pth cannot be read as weights: it holds a \w+\.mkdir"):
        evaluate(prepare_test(tiny_config(tmp_path, data_root), "bad.pth"))
    assert not Path("harm").exists()


def test_the_text_of_a_config_is_not_run(tmp_path, data_root, monkeypatch):
    """mmengine's runners run it as a program when they resume, to compare numbers of GPUs."""
    monkeypatch.chdir(tmp_path)
    train(prepare_training(tiny_config(tmp_path, data_root, train_cfg__max_epochs=1)))
    path = tmp_path / "work" / "epoch_1.pth"
    checkpoint = torch.load(path, weights_only=False)
    checkpoint["meta"]["config"] = "import os\nos.mkdir('harm')\n"
    torch.save(checkpoint, path)
    train(prepare_training(tiny_config(tmp_path, data_root, train_cfg__max_epochs=2), resume=str(path)))
    assert not Path("harm").exists()
    assert (tmp_path / "work" / "epoch_2.pth").exists()


def test_objects_of_unknown_packages_are_named(tmp_path, foreign, reader):
    torch.save({"meta": foreign("someones.package", "Thing")()}, tmp_path / "one.pth")
    with pytest.raises(ValueError, match=r"one\.pth cannot be read as weights: it holds a someones\.package\.Thing, "):
        read_checkpoint(tmp_path / "one.pth", key="load_from")
