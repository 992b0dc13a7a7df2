"""Steps are the same after they were written and read, and reading them runs nothing."""

import json
import os
import random

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData
from torch import nn

from densehead.analysis.faults import StoredStep, TrainingStep
from densehead.analysis.faults.replay import build_detector
from densehead.analysis.faults.step import plain, read_step, set_progress
from densehead.structures import DetDataSample


class Drawing(nn.Module):
    """Draws from all generators, and says in which type it computes and which boxes it sees."""

    def forward(self, inputs, samples, mode):
        product = inputs.flatten(1) @ inputs.flatten(1).T
        drawn = [random.random(), float(np.random.rand()), float(torch.rand(())), float(torch.randn(1))]
        return drawn, product.dtype, samples[0].gt_instances.bboxes, samples[0].metainfo


@pytest.fixture
def batch():
    meta = {
        "img_path": "a.jpg",
        "img_shape": (4, 5),
        "scale_factor": (1.5, np.float32(2.0)),
        "matrix": np.eye(2, dtype=np.float32),
        "flip": False,
        "unfit": object(),
    }
    sample = DetDataSample(metainfo=meta)
    sample.gt_instances = InstanceData(bboxes=torch.rand(2, 4), labels=torch.tensor([1, 0]), names=["x", "y"])
    sample.ignored_instances = InstanceData(bboxes=torch.rand(1, 4))
    return {"inputs": torch.rand(1, 3, 4, 5), "data_samples": [sample]}


def through_a_file(step, folder):
    content = {"step": step.content(), "state_dict": {}, "model": None}
    torch.save(content, folder / "step.pth")
    return TrainingStep.from_content(read_step(folder / "step.pth")["step"])


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_a_step_goes_through_a_file(tmp_path, batch, dtype):
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        step = TrainingStep.of(batch)
    first = Drawing()
    expected = step.run(first)
    assert expected[1] == (dtype or torch.float32)
    random.random(), np.random.rand(), torch.rand(3)
    read = through_a_file(step, tmp_path)
    found = read.run(Drawing())
    assert found[:2] == expected[:2]
    assert torch.equal(found[2], expected[2])
    assert found[3] == {
        "img_path": "a.jpg",
        "img_shape": (4, 5),
        "scale_factor": (1.5, 2.0),
        "matrix": [[1.0, 0.0], [0.0, 1.0]],
        "flip": False,
        "unfit": None,
    }
    sample = read.samples[0]
    assert torch.equal(sample.ignored_instances.bboxes, batch["data_samples"][0].ignored_instances.bboxes)
    assert torch.equal(sample.gt_instances.labels, torch.tensor([1, 0]))


def test_a_step_is_kept_by_reference(batch):
    step = TrainingStep.of(batch)
    assert step.inputs is batch["inputs"]
    assert step.samples is batch["data_samples"]


class Harmful:
    def __reduce__(self):
        return os.mkdir, ("harm",)


def test_files_run_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"step": Harmful(), "state_dict": {}, "model": {}}, "step.pth")
    with pytest.raises(ValueError, match="which could run code"):
        read_step("step.pth")
    assert os.listdir() == ["step.pth"]


@pytest.mark.parametrize("kind", ["os.mkdir", "subprocess.run", "builtins.exec", "torch.nn.modules.activation.ReLU"])
def test_configs_build_only_what_is_registered(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    model = {"type": "FCOS", "backbone": {"type": "ResNet", "depth": 18}, "bbox_head": {"type": kind, "path": "harm"}}
    content = {"model": model, "default_scope": "densehead", "custom_imports": None}
    with pytest.raises(
        ValueError, match=rf"step\.pth: model\.bbox_head\.type is '{kind}', which is registered nowhere"
    ):
        build_detector(content, "step.pth")
    assert not os.listdir()


def test_a_detector_without_a_config():
    with pytest.raises(ValueError, match=r"step\.pth has no config of the model"):
        build_detector({"model": None}, "step.pth")


def test_what_is_no_report(tmp_path):
    with pytest.raises(FileNotFoundError, match="is no report of a loss that was not finite: it has no report"):
        StoredStep(tmp_path)
    (tmp_path / "report.json").write_text("{")
    with pytest.raises(ValueError, match=r"report\.json is damaged"):
        StoredStep(tmp_path)
    (tmp_path / "report.json").write_text(json.dumps({"fault": {}}))
    with pytest.raises(FileNotFoundError, match=r"there is no file .*step\.pth"):
        StoredStep(tmp_path)
    torch.save({"weights": 1}, tmp_path / "step.pth")
    with pytest.raises(ValueError, match=r"step\.pth must hold the step of a training"):
        StoredStep(tmp_path)


def test_plain():
    value = {"a": (1, [np.int64(2), None]), "b": nn.ReLU, "c": {"d": torch.ones(1, requires_grad=True)}, "e": True}
    made = plain(value, lambda one: one.__name__)
    assert made["a"] == (1, [2, None])
    assert type(made["a"][1][0]) is int
    assert made["b"] == "ReLU"
    assert not made["c"]["d"].requires_grad
    assert made["e"] is True


def test_the_place_in_the_training_is_said():
    set_progress(7, 2)
    hub = MessageHub.get_current_instance()
    assert (hub.get_info("iter"), hub.get_info("epoch")) == (7, 2)
