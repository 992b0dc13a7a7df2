"""tools/doctor.py: the page, the exit codes, the files."""

import importlib.util
import json
import shutil
import sys

import pytest

from tests.analysis.doctor.scenes import SIDE, write_scene
from tests.engine.tiny import ROOT


@pytest.fixture
def scene(tmp_path):
    """A data set without a fault, with its config in a file."""
    scene = write_scene(tmp_path / "data", "voc")
    scene.cfg.dump(tmp_path / "mine.py")
    return scene


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Return a function that calls the tool in this process: its exit code and what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DENSEHEAD_TRACEBACK", raising=False)
    spec = importlib.util.spec_from_file_location("doctor", ROOT / "tools" / "doctor.py")
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["doctor.py", *map(str, args)])
        code = tool.main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_nothing_is_wrong(scene, call):
    code, page, error = call("mine.py")
    assert (code, error) == (0, "")
    assert "Nothing is wrong.\n" in page
    assert "train  24 images, 48 objects to learn, of VOCDataset data/train.txt\n" in page
    assert "480 steps of 2 images: 40 epochs of 12 steps (24 images an epoch)" in page
    assert "memory  about 0.0" in page
    assert "Estimated: a step on" in page
    assert "\x1b" not in page
    assert max(map(len, page.splitlines())) <= 118


def test_errors_and_warnings_have_their_exit_codes(scene, call):
    scene.add("train", 3, "dog", (SIDE + 5, 20, 10, 12))
    assert call("mine.py", "--no-model")[0] == 0
    assert call("mine.py", "--no-model", "--strict")[0] == 3
    scene.image("train", 0).unlink()
    assert call("mine.py", "--no-model")[0] == 3
    assert call("mine.py", "--no-model", "--no-images")[0] == 0


def test_the_page_has_the_worst_first(scene, call):
    scene.add("train", 3, "dog", (SIDE + 5, 20, 10, 12))
    scene.add("train", 5, "bird", (50, 20, 10, 12))
    for index in range(5):
        scene.image("train", index).unlink()
    shutil.copy(scene.image("train", 9), scene.image("val", 9))
    code, page, _ = call("mine.py", "--no-model", "--json", "found.json")
    assert code == 3
    lines = page.splitlines()
    heads = [line.split()[0] for line in lines if line.startswith("  ") and line[2:3].isalpha() and ":" in line[:30]]
    assert heads == ["image-missing", "leak", "category-unnamed", "box-outside"]
    assert "2 errors, 2 warnings; the worst first." in lines
    at = next(i for i, line in enumerate(lines) if "image-missing" in line)
    assert lines[at : at + 7] == [
        "  image-missing  train: 5 of 24 images are not there",
        "      data/JPEGImages/train0.jpg: there is no such file",
        "      data/JPEGImages/train1.jpg: there is no such file",
        "      data/JPEGImages/train2.jpg: there is no such file",
        "      ... and 2 more",
        "    -> Copy the files, or correct data_root and data_prefix; --fix leaves these images out.",
        "",
    ]
    content = json.loads((scene.root.parent / "found.json").read_text())
    assert [one["check"] for one in content["findings"]] == heads
    assert len(content["findings"][0]["examples"]) == 5
    assert {one["split"]: one["images"] for one in content["splits"]} == {"train": 24, "val": 12}


def test_the_cleaned_copy_is_trained_on_by_the_options_that_are_printed(scene, call):
    scene.add("train", 3, "dog", (SIDE + 5, 20, 10, 12))
    code, page, _ = call("mine.py", "--no-model", "--fix", "fixed")
    assert code == 0
    options = page.partition("--cfg-options ")[2].replace("\\\n", " ").split()
    assert len(options) == 6  # a list and a folder for training, validation and test
    assert call("mine.py", "--no-model", "--strict", "--cfg-options", *options)[0] == 0
    code, _, error = call("mine.py", "--no-model", "--fix", "fixed")
    assert (code, error) == (
        2,
        "error: --fix fixed: the folder is not empty; name a new one, nothing is written over\n",
    )


def test_a_config_that_cannot_be_read(scene, call):
    assert call("yours.py")[::2] == (2, "error: there is no config file yours.py.\n")
    assert call("mine.py", "--gpus", "0")[::2] == (2, "error: --gpus must be at least 1, but got 0\n")
