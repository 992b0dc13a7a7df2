"""The command-line tools, on a detector and a data set of a second or two."""

import importlib.util
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import uuid

import pytest
from mmengine.fileio import load

from tests.engine.tiny import ROOT, tiny_config

ENV = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "DENSEHEAD_TRACEBACK")}
ENV["OMP_NUM_THREADS"] = "1"


def command(tool, *args):
    return [sys.executable, str(ROOT / "tools" / tool), *map(str, args)]


def records(work_dir):
    """Return what the runs in a work dir logged, the first run first."""
    lines = [line for file in sorted(work_dir.glob("*/vis_data/2*.json")) for line in file.read_text().splitlines()]
    return [json.loads(line) for line in lines]


def losses(work_dir):
    """Return the loss of each iteration; what a resumed run went through again counts from there."""
    return [
        loss for _, loss in sorted({one["step"]: one["loss"] for one in records(work_dir) if "loss" in one}.items())
    ]


def rename(config):
    """Give a config file another experiment, since mmengine keeps loggers by its name as long as a process lives."""
    path = pathlib.Path(config)
    if path.is_file():
        name = f"experiment_name = '{uuid.uuid4().hex}'"
        path.write_text(re.sub(r"^experiment_name = .*$", name, path.read_text(), flags=re.MULTILINE))


@pytest.fixture
def config(tmp_path, data_root):
    """Return a function that writes a config file and returns its path."""

    def write(**options):
        cfg = tiny_config(tmp_path, data_root, **options)
        cfg.pop("work_dir")
        cfg.dump(tmp_path / "tiny.py")
        return tmp_path / "tiny.py"

    return write


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Return a function that calls a tool in this process: its exit code and what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DENSEHEAD_TRACEBACK", raising=False)

    def run(tool, *args):
        spec = importlib.util.spec_from_file_location(f"tool_{tool[:-3]}", ROOT / "tools" / tool)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, "argv", [tool, *map(str, args)])
        rename(args[0])
        code = module.main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    monkeypatch.setenv("LOCAL_RANK", "0")
    return run


def test_train_then_test(tmp_path, config):
    """From a folder where densehead is not installed, as a user of a fresh clone runs them."""
    path = config()
    trained = subprocess.run(
        command("train.py", path), cwd=tmp_path, env=ENV, capture_output=True, text=True, timeout=300
    )
    assert trained.returncode == 0, trained.stderr
    work_dir = tmp_path / "work_dirs" / "tiny"
    assert "Training has ended." in trained.stdout
    assert "Failed to search registry" not in trained.stdout
    assert {"epoch_1.pth", "epoch_2.pth", "curves.png", "detections.png"} <= set(os.listdir(work_dir))
    assert list(work_dir.glob("best_coco_bbox_mAP_epoch_*.pth"))

    args = (path, "work_dirs/tiny/epoch_2.pth", "--work-dir", "tested", "--out", "found.pkl", "--show-dir", "pictures")
    tested = subprocess.run(
        command("test.py", *args), cwd=tmp_path, env=ENV, capture_output=True, text=True, timeout=300
    )
    assert tested.returncode == 0, tested.stderr
    metrics = json.loads(next((tmp_path / "tested").glob("*/metrics.json")).read_text())
    last = [one for one in records(work_dir) if "loss" not in one][-1]
    assert metrics["coco/bbox_mAP"] > 0
    assert metrics == {name: value for name, value in last.items() if name.startswith("coco/")}
    found = load(tmp_path / "found.pkl")
    assert len(found) == len(list((tmp_path / "tested").glob("*/pictures/*.jpg"))) == 8
    assert "gt_instances" not in found[0]


def test_resume_from_the_command_line(tmp_path, config, call):
    path = config(default_hooks__summary=None)
    assert call("train.py", path, "--work-dir", "whole")[0] == 0
    options = ("--work-dir", "part", "--cfg-options")
    assert call("train.py", path, *options, "train_cfg.max_epochs=1")[0] == 0
    code, said, _ = call("train.py", path, *options[:2], "--resume")
    assert code == 0
    assert "resumed epoch: 1, iter: 4" in said
    assert losses(tmp_path / "part") == losses(tmp_path / "whole")


def test_flags_of_test(tmp_path, config, call):
    path = config(default_hooks__summary=None, train_cfg__max_epochs=1)
    assert call("train.py", path, "--auto-scale-lr", "--cfg-options", "auto_scale_lr.base_batch_size=4")[0] == 0
    checkpoint = "work_dirs/tiny/epoch_1.pth"
    code, said, _ = call("test.py", path, checkpoint, "--tta")
    assert code == 0
    assert "Testing has ended." in said
    code, _, error = call("test.py", path, checkpoint, "--out", "found.json")
    assert (code, error) == (2, "error: --out must end with .pkl or .pickle, but got found.json\n")
    code, _, error = call("test.py", path, "work_dirs/tiny/epoch_9.pth")
    assert code == 2
    assert error.startswith(
        "error: the checkpoint: there is no checkpoint work_dirs/tiny/epoch_9.pth; in work_dirs/tiny"
    )
    code, _, error = call("test.py", path, checkpoint, "--cfg-options", "model.neck.out_channels=8")
    assert code == 2
    assert "work_dirs/tiny/epoch_1.pth is a checkpoint of another architecture: it has" in error


def test_tensorboard(config, call, tmp_path):
    path = config(default_hooks__summary=None, train_cfg__max_epochs=1)
    backends = "visualizer.vis_backends=[dict(type='LocalVisBackend'),dict(type='TensorboardVisBackend')]"
    assert call("train.py", path, "--cfg-options", backends)[0] == 0
    assert list(tmp_path.glob("work_dirs/tiny/*/vis_data/events.out.tfevents.*"))


BAD_INPUT = [
    (
        {},
        ["model.bbox_head.stackd_convs=2"],
        r"model\.bbox_head\.stackd_convs: FCOSHead has no such key\. Did you mean 's",
    ),
    ({}, ["model.bbox_hed.type=FCOSHead"], r"model\.bbox_hed: FCOS has no such key\. Did you mean 'bbox_head'"),
    ({}, ["model.bbox_head.type=FCOSHed"], r"'FCOSHed' is not in the densehead::model registry .* 'FCOSHead'"),
    ({}, ["model.bbox_head.num_classes=4"], r"model\.bbox_head\.num_classes is 4, but train_dataloader\.dataset .* 10"),
    ({}, ["model.neck.num_outs=5"], r"bbox_head\.strides has 4 entries, but the neck puts out 5 levels"),
    ({}, ["model.bbox_head.strides=[4,8,16,32]"], r"level 0 of the neck has stride 8 .* bbox_head\.strides\[0\] is 4"),
    (
        {},
        ["optim_wrapper.optimizer.lrr=1"],
        r"optim_wrapper\.optimizer\.lrr: AdamW has no such key\. Did you mean 'lr'",
    ),
    ({}, ["train_dataloader.dataset.pipeline.0.colour=x"], r"pipeline\[0\]\.colour: LoadImageFromFile has no such key"),
    ({}, ["max_epoch=3"], r"--cfg-options max_epoch: tiny\.py has no key 'max_epoch'\. Did you mean 'max_epochs'"),
    ({"train_dataloader": None}, [], r"tiny\.py has no train_dataloader, which this run needs"),
    ({"load_from": "none.pth"}, [], r"load_from: there is no checkpoint none\.pth"),
    ({"optim_wrapper__type": "AmpOptimWrapper"}, [], r"mixed precision .* needs a GPU"),
]


@pytest.mark.parametrize(("options", "overrides", "match"), BAD_INPUT)
def test_bad_input(config, call, options, overrides, match):
    path = config(default_hooks__summary=None, **options)
    code, _, error = call("train.py", path, *(["--cfg-options", *overrides] if overrides else []))
    assert code == 2
    assert re.match(f"error: .*{match}", error), error
    assert len(error.splitlines()) == 1


def test_missing_key(config, call, tmp_path):
    path = config()
    text = path.read_text()
    assert "        num_classes=10,\n" in text
    path.write_text(text.replace("        num_classes=10,\n", ""))
    code, _, error = call("train.py", path)
    assert code == 2
    assert error == "error: model.bbox_head.num_classes: FCOSHead cannot be built without it; set it in the config.\n"


def test_files_that_are_not_there(tmp_path, config, call):
    config()
    code, _, error = call("train.py", "tinny.py")
    assert (code, error) == (2, "error: there is no config file tinny.py. Did you mean 'tiny.py'?\n")
    (tmp_path / "broken.py").write_text("model = dict(")
    code, _, error = call("train.py", "broken.py")
    assert code == 2
    assert error.startswith("error: broken.py cannot be read as a config: SyntaxError")


def test_image_that_cannot_be_read(tmp_path, config, call):
    path = config(default_hooks__summary=None, train_dataloader__num_workers=1)
    assert call("train.py", path, "--cfg-options", f"data_root={tmp_path}", "train_cfg.max_epochs=1")[0] == 0
    # scenes of another seed, of which one is cut off
    options = ("train_dataloader.dataset.seed=3", f"train_dataloader.dataset.data_root={tmp_path}")
    assert call("train.py", path, "--cfg-options", *options, "train_cfg.max_epochs=1")[0] == 0
    image = sorted(tmp_path.glob("train-*seed3*/images/*"))[2]
    image.write_bytes(image.read_bytes()[:100])
    code, _, error = call("train.py", path, "--cfg-options", *options)
    assert code == 2
    assert str(image) in error
    assert len(error.splitlines()) == 1


def test_tools_say_what_to_install(tmp_path):
    for name in ("mmcv", "mmengine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("__version__ = '1.7.0'\n")
    ran = subprocess.run(
        command("train.py", "any.py"),
        env={**ENV, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: densehead needs 'mmengine' >= 0.10.0, but found 1.7.0") or (
        "pip install" in ran.stderr
    )


@pytest.mark.slow
@pytest.mark.parametrize(("signum", "code"), [(signal.SIGKILL, -9), (signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_killed_and_resumed(tmp_path, config, signum, code):
    """The losses are those of a training that was left alone, whatever it was stopped by."""
    path = config(train_cfg__max_epochs=6, train_dataloader__num_workers=1, train_dataloader__persistent_workers=True)
    run = {"cwd": tmp_path, "env": ENV, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    assert subprocess.run(command("train.py", path, "--work-dir", "whole"), **run, timeout=300).returncode == 0
    training = subprocess.Popen(command("train.py", path, "--work-dir", "part"), **run)
    for line in training.stdout:
        if "Epoch(train) [3][2/4]" in line:
            training.send_signal(signum)
            break
    said = training.communicate(timeout=60)[0]
    assert training.returncode == code, said
    assert ("--resume goes on" in said) == (signum != signal.SIGKILL)
    resumed = subprocess.run(command("train.py", path, "--work-dir", "part", "--resume"), **run, timeout=300)
    assert resumed.returncode == 0, resumed.stdout
    assert losses(tmp_path / "part") == losses(tmp_path / "whole")
    assert len(losses(tmp_path / "whole")) == 24


@pytest.mark.slow
def test_two_processes(tmp_path, config, free_port):
    """dist_train.sh and dist_test.sh, without GPUs."""
    path = config(default_hooks__summary=None, train_cfg__max_epochs=1, train_dataloader__batch_size=1)
    env = {**ENV, "PYTHON": sys.executable, "PORT": free_port, "CUDA_VISIBLE_DEVICES": ""}
    run = {"cwd": tmp_path, "env": env, "capture_output": True, "text": True, "timeout": 300}
    trained = subprocess.run([str(ROOT / "tools" / "dist_train.sh"), str(path), "2"], **run)
    assert trained.returncode == 0, trained.stdout + trained.stderr
    assert "Epoch(train) [1][4/4]" in trained.stdout
    checkpoint = "work_dirs/tiny/epoch_1.pth"
    tested = subprocess.run([str(ROOT / "tools" / "dist_test.sh"), str(path), checkpoint, "2"], **run)
    assert tested.returncode == 0, tested.stdout + tested.stderr
    alone = subprocess.run(command("test.py", path, checkpoint, "--work-dir", "alone"), **run)
    assert alone.returncode == 0, alone.stderr
    by_two = json.loads(next((tmp_path / "work_dirs" / "tiny").glob("*/metrics.json")).read_text())
    by_one = json.loads(next((tmp_path / "alone").glob("*/metrics.json")).read_text())
    assert by_two == pytest.approx(by_one)
