"""The tools for looking into detections, runs, data and feature maps, as they are called."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys

import pytest
import torch

from densehead.registry import MODELS
from tests.engine.tiny import ROOT, tiny_config
from tests.tools.test_tools import ENV
from tests.visualization.test_plots import records

FOLDER = ROOT / "tools" / "analysis"


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Return a function that calls a tool in this process: its exit code and what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DENSEHEAD_TRACEBACK", raising=False)

    def run(tool, *args):
        spec = importlib.util.spec_from_file_location(f"analysis_{tool}", FOLDER / f"{tool}.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, "argv", [tool, *map(str, args)])
        code = module.main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def config(tmp_path, data_root):
    tiny_config(tmp_path, data_root).dump(tmp_path / "tiny.py")
    return "tiny.py"


@pytest.fixture
def checkpoint(tmp_path, data_root):
    model = MODELS.build(tiny_config(tmp_path, data_root).model)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "weights.pth")
    return "weights.pth"


def names(folder):
    return sorted(file.name for file in folder.iterdir())


def test_detections(call, config, checkpoint, tmp_path):
    code, said, error = call("detections", config, checkpoint, "--num-images", 2, "--iou", 0.75)
    assert (code, error) == (0, "")
    assert "AP75" in said
    assert "localisation: " in said
    out = tmp_path / "work_dirs" / "tiny" / "detections_test"
    assert {"summary.json", "curves.png", "confusion.csv", "worst.png"} <= set(names(out))
    code, _, error = call("detections", config, checkpoint, "--iou", 0)
    assert (code, error) == (2, "error: the IoU threshold must be above 0.1 and at most 1, but got 0.0\n")
    code, _, error = call("detections", config, "--detections", "absent.pkl")
    assert (code, error) == (2, "error: --detections: there is no file absent.pkl\n")
    code, _, error = call("detections", config, "absent.pth")
    assert code == 2
    assert error.startswith("error: the checkpoint: there is no checkpoint absent.pth; in . there are weights.pth")


def test_detections_of_a_checkpoint_or_of_a_file(call, config, checkpoint, capsys):
    for args in ((), (checkpoint, "--detections", "found.pkl")):
        with pytest.raises(SystemExit) as stopped:
            call("detections", config, *args)
        assert stopped.value.code == 2
        assert "give a checkpoint, or --detections FILE.pkl" in capsys.readouterr().err


def test_curves(call, tmp_path):
    for name in ("one", "two"):
        folder = tmp_path / name / "20250101_000000" / "vis_data"
        folder.mkdir(parents=True)
        (folder / "scalars.json").write_text("\n".join(json.dumps(one) for one in records(2)))
    code, said, _ = call("curves", "one", "two", "--keys", "loss*", "--smooth", 3, "--out", "out/c.png")
    assert (code, said) == (0, "out/c.png, out/c.csv\n")
    assert names(tmp_path / "out") == ["c.csv", "c.png"]
    code, _, error = call("curves", "one", "three")
    assert code == 2
    assert error == "error: there is no run three: give a work dir, or a file vis_data/scalars.json\n"


def test_browse_dataset(call, config, tmp_path):
    code, said, _ = call("browse_dataset", config, "--num", 2, "--original", "--single", "--out", "out")
    assert code == 0
    assert said.endswith("out: 2 of 8 samples\n")
    assert len(names(tmp_path / "out")) == 3
    code, _, error = call("browse_dataset", config, "--num", 0)
    assert (code, error) == (2, "error: the number of images must be at least 1, but got 0\n")


def test_heatmaps(call, config, checkpoint, data_root, tmp_path):
    call("browse_dataset", config, "--num", 1)  # the scenes are written
    image = next(data_root.glob("train-*/images/*.jpg"))
    code, said, _ = call("heatmaps", config, checkpoint, image, "--class", 3, "--feature", "pca")
    assert code == 0
    assert said == f"work_dirs/tiny/heatmaps/{image.stem}.png\n"
    assert names(tmp_path / "work_dirs" / "tiny" / "heatmaps") == [f"{image.stem}.png"]
    code, _, error = call("heatmaps", config, checkpoint, "absent.jpg")
    assert code == 2
    assert "absent.jpg" in error
    assert len(error.splitlines()) == 1


def test_from_a_folder_where_densehead_is_not_installed(tmp_path):
    command = [sys.executable, str(FOLDER / "detections.py"), "--help"]
    ran = subprocess.run(command, cwd=tmp_path, env=ENV, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("usage: detections.py")
