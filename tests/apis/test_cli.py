import os
import signal
import subprocess
import sys
from urllib.error import URLError

import pytest
import torch
from mmengine.logging import MMLogger
from torch.utils.data import DataLoader, Dataset

from densehead.apis import cli
from densehead.engine import TrainingStopped
from densehead.engine.checks import check_sections
from densehead.registry import MODELS


def fail(error):
    raise error


def deliberate():
    check_sections({}, ["model"], "mine.py")


@pytest.fixture(autouse=True)
def no_switch(monkeypatch):
    monkeypatch.delenv("DENSEHEAD_TRACEBACK", raising=False)


def test_exit_codes(capsys, tmp_path):
    assert cli.run(lambda: None) == 0
    assert cli.run(lambda: fail(KeyboardInterrupt())) == 130
    assert cli.run(lambda: fail(TrainingStopped(15, str(tmp_path / "interrupted.pth")))) == 143
    said = capsys.readouterr().err
    assert "stopped by SIGTERM at " in said
    assert "--resume goes on" in said


def test_error_of_the_package_is_a_line(capsys):
    assert cli.run(deliberate) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("error: mine.py has no model, which this run needs.")
    assert len(captured.err.splitlines()) == 1


def test_weights_that_cannot_be_fetched(monkeypatch, capsys, tmp_path):
    """A config of the zoo on a machine without a network: its backbone asks for weights of torchvision."""
    monkeypatch.setattr(torch.hub, "_hub_dir", str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", lambda *args, **kwargs: fail(URLError("no route to host")))
    backbone = MODELS.build(
        {"type": "ResNet", "depth": 18, "init_cfg": {"type": "Pretrained", "checkpoint": "torchvision://resnet18"}}
    )
    assert cli.run(backbone.init_weights) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert line.startswith("error: backbone.init_cfg asks for 'torchvision://resnet18', but https://")
    assert f"put it at {tmp_path}/checkpoints/resnet18-" in line
    assert "--cfg-options: model.backbone.init_cfg.checkpoint=/path/to/file.pth" in line


def test_traceback_on_demand(monkeypatch):
    with pytest.raises(ValueError, match="has no model"):
        cli.run(deliberate, show_traceback=True)
    monkeypatch.setenv("DENSEHEAD_TRACEBACK", "1")
    with pytest.raises(ValueError, match="has no model"):
        cli.run(deliberate)


def test_traceback_is_in_the_log(tmp_path, capsys):
    MMLogger.get_instance("test_traceback_is_in_the_log", log_file=str(tmp_path / "run.log"))
    assert cli.run(deliberate) == 2
    assert "Traceback (most recent call last)" in (tmp_path / "run.log").read_text()


@pytest.mark.parametrize("error", [ValueError("of a library"), RuntimeError("CUDA"), AssertionError()])
def test_bugs_pass_through(error):
    with pytest.raises(type(error)):
        cli.run(lambda: fail(error))


def test_an_error_inside_the_package_that_it_did_not_mean_is_a_bug():
    with pytest.raises(TypeError):
        cli.run(lambda: check_sections({}, 3))


@pytest.mark.parametrize(
    ("cfg", "text"),
    [
        (
            {"model": {"type": "FPN", "in_channels": [8], "out_channels": 8, "num_out": 1}},
            "model.num_out: FPN has no such key. Did you mean 'num_outs'",
        ),
        (
            {"model": {"type": "FPN", "in_channels": [8], "num_outs": 1}},
            "model.out_channels: FPN cannot be built without it; set it in the config.",
        ),
        (
            {"model": {"type": "FPNN", "in_channels": [8]}},
            "'FPNN' is not in the densehead::model registry (its parents searched too). Did you mean 'FPN'",
        ),
    ],
)
def test_keys_of_the_config(cfg, text, capsys):
    assert cli.run(lambda: MODELS.build(cfg["model"]), config=lambda: cfg) == 2
    assert capsys.readouterr().err.startswith(f"error: {text}")


class Broken(Dataset):
    def __init__(self, bug):
        self.bug = bug

    def __len__(self):
        return 1

    def __getitem__(self, index):
        if self.bug:
            raise ValueError("a bug")
        deliberate()


def test_error_in_a_loading_process(capsys):
    assert cli.run(lambda: list(DataLoader(Broken(bug=False), num_workers=1))) == 2
    assert capsys.readouterr().err.splitlines()[0].startswith("error: mine.py has no model")
    with pytest.raises(ValueError, match="a bug"):
        cli.run(lambda: list(DataLoader(Broken(bug=True), num_workers=1)))


def test_error_deep_in_a_model_is_a_bug():
    with pytest.raises(RuntimeError):
        cli.run(lambda: torch.zeros(2) @ torch.zeros(3))


@pytest.mark.parametrize(("lines", "buffering"), [(1, -1), (1, 1), (100_000, -1)])
def test_nobody_reads_on(monkeypatch, capfd, lines, buffering):
    """Whether the pipe breaks in the middle or only when the last is written."""
    read, write = os.pipe()
    os.close(read)
    with open(write, "w", buffering) as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        assert cli.run(lambda: [print("a line of text") for _ in range(lines)]) == 128 + signal.SIGPIPE
    assert capfd.readouterr().err == ""


def test_python_ends_quietly_where_nobody_reads_on():
    code = "import sys\nfrom densehead.apis import cli\nsys.exit(cli.run(lambda: print('a line of text')))"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 128 + signal.SIGPIPE


def test_another_broken_pipe_is_an_error():
    with pytest.raises(BrokenPipeError):
        cli.run(lambda: fail(BrokenPipeError()))


def test_names_that_are_no_text_are_printed(capfd):
    assert cli.run(lambda: print("\ud800.jpg")) == 0
    assert capfd.readouterr().out == "\\ud800.jpg\n"
