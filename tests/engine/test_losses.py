"""Losses that are not finite, planted into real trainings: the message, the report, and the step repeated."""

import json
import os
import re

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from PIL import Image

from densehead.analysis.faults import StoredStep
from densehead.apis import build_runner, prepare_training
from densehead.engine.hooks import CheckInvalidLossHook
from densehead.models.heads import finite
from densehead.registry import DATASETS
from tests.engine.planted import PoisonHook
from tests.engine.tiny import tiny_config

BASE = {"default_hooks__summary": None, "train_cfg__max_epochs": 1, "log_level": "WARNING"}


def make_runner(folder, data_root, poison=None, **options):
    cfg = tiny_config(folder, data_root, **BASE, **options)
    runner = build_runner(prepare_training(cfg))
    if poison is not None:
        runner.register_hook(poison)
    return runner


def fail(runner):
    """Train, return the message and the report's folder."""
    with pytest.raises(FloatingPointError) as caught:
        runner.train()
    message = str(caught.value)
    assert "\n" not in message
    found = re.search(r"Report: (\S+); to repeat the step: python tools/analysis/replay.py (\S+)$", message)
    assert found is None or found.group(1) == found.group(2)
    return message, found and found.group(1)


@pytest.fixture
def on_gpu(monkeypatch):
    """Losses that nobody looks at before the step is on its way, as if they lay on a GPU."""
    monkeypatch.setattr(finite, "_is_on_host", lambda value: False)
    return monkeypatch


class TestReports:
    def test_a_weight(self, tmp_path, data_root):
        poison = PoisonHook("weight")
        message, folder = fail(make_runner(tmp_path, data_root, poison))
        start = "iteration 3: loss_bbox is nan: bbox_head.conv_reg.weight has 1 of 576 numbers that are not finite. "
        assert message.startswith(start)
        assert folder == str(tmp_path / "work" / "loss_not_finite_iter_3")
        assert sorted(os.listdir(folder)) == ["config.py", "images.png", "report.json", "report.txt", "step.pth"]
        told = json.loads((tmp_path / "work" / "loss_not_finite_iter_3" / "report.json").read_text())
        assert (told["iteration"], told["epoch"], told["classes"]) == (3, 1, list("0123456789"))
        fault = told["fault"]
        assert fault["losses"] == [["loss_bbox", "nan"]]
        assert fault["parameters"] == [["bbox_head.conv_reg.weight", 1, 576]]
        assert {place["name"] for place in fault["places"]} == {"box_deltas"}
        assert poison.path in fault["paths"]
        text = (tmp_path / "work" / "loss_not_finite_iter_3" / "report.txt").read_text()
        assert text.startswith(
            "Iteration 3, epoch 1:\nloss_bbox is nan\nWeights before the step:\n  bbox_head.conv_reg"
        )
        assert all(path in text for path in fault["paths"])
        replay = StoredStep(folder).replay()
        assert replay.is_same
        assert replay.fault.as_dict() == fault

    def test_an_image(self, tmp_path, data_root):
        poison = PoisonHook("image")
        message, folder = fail(make_runner(tmp_path, data_root, poison))
        name = re.escape(os.path.basename(poison.path))
        assert re.match(
            rf"iteration 3: loss_cls is nan, .*: image 1 \({name}\) has 1 of 12288 numbers that are", message
        )
        replay = StoredStep(folder).replay()
        assert replay.is_same
        assert replay.fault.inputs == ((1, 1, 12288),)
        # batch norm has brought it to the other image, but its running statistics are the step's work and not its cause
        assert {place.image for place in replay.fault.places} == {0, 1}
        assert replay.fault.parameters == ()
        assert replay.fault.images() == [1]
        picture = np.asarray(Image.open(os.path.join(folder, "images.png")).convert("RGB")).astype(int)
        assert (np.abs(picture - [255, 0, 200]).sum(-1) < 60).any()

    def test_an_object(self, tmp_path, data_root):
        """The loss is NaN for the narrowest object of the data set, wherever its image comes."""
        cfg = tiny_config(tmp_path, data_root)
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
        truth = {
            (one["img_path"], index): (box["bbox"][2] - box["bbox"][0]) / (box["bbox"][3] - box["bbox"][1])
            for one in map(dataset.get_data_info, range(len(dataset)))
            for index, box in enumerate(one["instances"])
        }
        (path, index), aspect = min(truth.items(), key=lambda item: item[1])
        loss = {"_delete_": True, "type": "LossThatFearsAnAspect", "aspect": aspect}
        imports = {"imports": ["tests.engine.planted"], "allow_failed_imports": False}
        options = {"model__bbox_head__loss_bbox": loss, "custom_imports": imports}
        message, folder = fail(make_runner(tmp_path, data_root, **options))
        fault = StoredStep(folder).replay().fault
        (culprit,) = fault.objects
        assert (fault.paths[culprit.image], culprit.object, culprit.losses) == (path, index, ("loss_bbox",))
        assert fault.losses == (("loss_bbox", "nan"),)
        assert fault.parameters == fault.inputs == fault.places == ()
        assert f"loss_bbox is nan: object {index} ({culprit.label}, box " in message
        assert StoredStep(folder).replay().is_same

    def test_an_annotation(self, tmp_path, data_root):
        """Never gets as far as a loss."""
        poison = PoisonHook("box")
        runner = make_runner(tmp_path, data_root, poison)
        with pytest.raises(
            ValueError, match=r"has the box \(.*inf.*\) as its object 0: its sides must be finite"
        ) as error:
            runner.train()
        assert poison.path in str(error.value)

    def test_a_second_one_has_a_name_of_its_own(self, tmp_path, data_root):
        folders = [fail(make_runner(tmp_path, data_root, PoisonHook("weight", 1)))[1] for _ in range(2)]
        assert [os.path.basename(one) for one in folders] == ["loss_not_finite_iter_1", "loss_not_finite_iter_1_2"]


class TestOnGpu:
    """The head does not look; the hook does, before the weights are changed."""

    @pytest.mark.parametrize("accumulative_counts", [1, 4])
    def test_the_weights_are_those_before_the_step(self, tmp_path, data_root, on_gpu, accumulative_counts):
        poison = PoisonHook("image")
        options = {"optim_wrapper__accumulative_counts": accumulative_counts, "param_scheduler": []}
        message, folder = fail(make_runner(tmp_path, data_root, poison, **options))
        assert message.startswith("iteration 3: loss_cls is nan, loss_bbox is nan")
        step = StoredStep(folder)
        for name, value in step.content["state_dict"].items():
            if "running" not in name and "num_batches" not in name:
                assert torch.equal(value, poison.weights[name]), name
                assert value.isfinite().all()
        assert step.replay().is_same
        on_gpu.undo()
        assert step.replay().is_same

    def test_now_and_then(self, tmp_path, data_root, on_gpu):
        options = {"default_hooks__check_losses": {"type": "CheckInvalidLossHook", "interval": 4}}
        message, folder = fail(make_runner(tmp_path, data_root, PoisonHook("weight", 2), **options))
        assert message.startswith("iteration 4: ")
        assert StoredStep(folder).replay().is_same

    def test_without_the_hook_nothing_is_kept(self, tmp_path, data_root, on_gpu):
        runner = make_runner(tmp_path, data_root, default_hooks__check_losses=None)
        runner.train()
        assert runner.model.bbox_head.last_report is None


class Witness(Hook):
    """Looks at what is kept between steps."""

    def __init__(self):
        self.kept = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.look(runner)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.look(runner)

    def look(self, runner):
        hook = next(one for one in runner.hooks if isinstance(one, CheckInvalidLossHook))
        self.kept.append((hook._watch.step, runner.model.bbox_head.last_report, "train_step" in vars(runner.model)))


@pytest.mark.parametrize("where", ["cpu", "gpu"])
def test_nothing_is_left_after_a_step_nor_after_the_training(tmp_path, data_root, where, request):
    if where == "gpu":
        request.getfixturevalue("on_gpu")
    witness = Witness()
    runner = make_runner(tmp_path, data_root, witness)
    runner.train()
    assert witness.kept == [(None, None, True)] * 6
    assert "train_step" not in vars(runner.model)
    assert not runner.model.bbox_head.keeps_report
    assert not runner.model.data_preprocessor._forward_hooks
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks


def test_without_a_report(tmp_path, data_root):
    options = {"default_hooks__check_losses": {"type": "CheckInvalidLossHook", "report": False}}
    message, folder = fail(make_runner(tmp_path, data_root, PoisonHook("weight"), **options))
    assert folder is None
    assert message.startswith(
        "iteration 3: loss_bbox is nan. Not finite: box_deltas of level 0 (stride 8) of image 0 ("
    )
    assert not list((tmp_path / "work").glob("loss_not_finite*"))


def test_a_report_that_cannot_be_written(tmp_path, data_root, monkeypatch, capsys):
    """The training ends for its loss all the same, and nothing half is left."""

    def full(*args):
        raise OSError("no space left on device")

    monkeypatch.setattr("densehead.analysis.faults.report.draw_fault", full)
    message, folder = fail(make_runner(tmp_path, data_root, PoisonHook("weight")))
    assert folder is None
    assert message.startswith("iteration 3: loss_bbox is nan. Not finite: box_deltas of level 0")
    assert "no report could be written:" in capsys.readouterr().out
    assert not list((tmp_path / "work").glob("*loss_not_finite*"))


def test_a_batch_that_is_too_large(tmp_path, data_root):
    options = {"default_hooks__check_losses": {"type": "CheckInvalidLossHook", "max_size": 0.5}}
    _, folder = fail(make_runner(tmp_path, data_root, PoisonHook("weight"), **options))
    assert not os.path.exists(os.path.join(folder, "step.pth"))
    assert os.path.exists(os.path.join(folder, "images.png"))
    said = (tmp_path / "work" / "loss_not_finite_iter_3" / "report.txt").read_text()
    assert "cannot be repeated: weights and batch have 1 MB, more than the 0.5 MB of check_losses.max_size" in said
    with pytest.raises(FileNotFoundError, match=r"there is no file .*step\.pth"):
        StoredStep(folder)


@pytest.mark.parametrize("key", ["interval", "max_size"])
def test_keys_are_checked(key):
    with pytest.raises(ValueError, match=f"default_hooks.check_losses.{key} must be positive, but got 0"):
        CheckInvalidLossHook(**{key: 0})
