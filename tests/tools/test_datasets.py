"""tools/inspect_dataset.py and tools/convert_dataset.py."""

import importlib.util
import json
import sys

import pytest

from densehead.datasets import DigitsDataset
from tests.datasets.small import write_text, write_voc
from tests.engine.tiny import ROOT, tiny_config


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Return a function that calls a tool in this process: its exit code and what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DENSEHEAD_TRACEBACK", raising=False)
    monkeypatch.setenv("LOCAL_RANK", "0")

    def run(name, *args):
        spec = importlib.util.spec_from_file_location(f"tool_{name}", ROOT / "tools" / f"{name}.py")
        tool = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tool)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, args)])
        code = tool.main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_conversion(call, tmp_path):
    write_voc(tmp_path / "voc", {"train": ["a", "b"], "val": ["c"]})
    code, said, error = call("convert_dataset", "voc", "yolo", "--to", "yolo", "--split", "train", "--symlink")
    assert (code, error) == (0, "")
    assert said == "voc: Pascal VOC, 1 classes\n  train     2 images, 2 objects\nyolo: written as yolo\n"
    assert (tmp_path / "yolo" / "images" / "train" / "a.jpg").is_symlink()
    code, said, error = call("convert_dataset", "voc", "yolo", "--to", "yolo")
    assert (code, said) == (2, "")
    assert error.startswith("error: yolo: holds files already")
    assert call("convert_dataset", "voc", "bare", "--to", "coco", "--from", "voc", "--no-images")[0] == 0
    assert sorted(path.name for path in (tmp_path / "bare").iterdir()) == ["annotations"]


def test_marks_are_counted(call, tmp_path):
    write_voc(tmp_path / "voc", {"train": ["a"]})
    path = tmp_path / "voc" / "Annotations" / "a.xml"
    write_text(path, path.read_text().replace("<bndbox>", "<difficult>1</difficult><bndbox>"))
    said = call("convert_dataset", "voc", "yolo", "--to", "yolo")[1]
    assert "  1 objects marked difficult are left out, since label files cannot mark them.\n" in said
    said = call("convert_dataset", "voc", "kept", "--to", "yolo", "--keep-marked")[1]
    assert "  1 objects marked difficult are written like any other" in said


def test_a_folder_is_inspected(call, tmp_path):
    write_voc(tmp_path / "voc", {"train": ["a", "b"], "val": ["c"]})
    code, said, error = call("inspect_dataset", "voc")
    assert (code, error) == (0, "")
    assert said.startswith("voc: Pascal VOC\n  classes   1: cat\n  train     2 images\n  val       1 images\n")
    assert 'ann_file="ImageSets/Main/train.txt"' in said
    code, said, error = call("inspect_dataset", "voc", "--from", "coco")
    assert (code, said) == (2, "")
    assert error.startswith("error: voc: no data set was recognised. The folder holds: 'Annotations', 'ImageSets'")
    assert call("inspect_dataset", "none")[2] == "error: none: there is no such folder\n"


def test_from_digits_over_yolo_to_a_training(call, tmp_path, data_root):
    """The whole way: scenes in COCO's format are converted, recognised, and trained on by the written config."""
    for split in ("train", "val"):
        dataset = DigitsDataset(str(data_root), split, num_images=8, image_size=64, digits={"max_size": 48})
    digits = str(dataset.data_root)
    assert call("convert_dataset", digits, "yolo", "--to", "yolo", "--hardlink")[0] == 0
    tiny_config(tmp_path, data_root, default_hooks__summary=None, train_cfg__max_epochs=1).dump(tmp_path / "base.py")
    code, said, _ = call("inspect_dataset", "yolo", "--write", "configs/mine.py", "--base", "base.py")
    assert code == 0
    assert said.endswith("configs/mine.py: written. Train: python tools/train.py configs/mine.py\n")
    code, said, error = call("train", "configs/mine.py")
    assert code == 0, error
    (file,) = (tmp_path / "work_dirs" / "mine").glob("*/vis_data/scalars.json")
    assert json.loads(file.read_text().splitlines()[-1])["coco/bbox_mAP"] >= 0
    assert call("inspect_dataset", "yolo", "--write", "configs/mine.py")[2].startswith(
        "error: configs/mine.py is there"
    )
