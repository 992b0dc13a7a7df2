"""tools/analysis/assignment.py, as it is called."""

import csv
import importlib.util
import subprocess
import sys

import pytest
from mmengine.logging import MMLogger

from densehead.registry import DATASETS
from tests.engine.tiny import ROOT, tiny_config
from tests.tools.test_tools import ENV

TOOL = ROOT / "tools" / "analysis" / "assignment.py"


@pytest.fixture
def call(monkeypatch, capsys, tmp_path, data_root):
    """Return a function that calls the tool with a config in this process: its exit code and what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DENSEHEAD_TRACEBACK", raising=False)
    cfg = tiny_config(tmp_path, data_root)
    for split in ("train", "val"):
        DATASETS.build(cfg[f"{split}_dataloader"].dataset)  # which says so when it writes its scenes
    cfg.dump(tmp_path / "tiny.py")
    capsys.readouterr()
    spec = importlib.util.spec_from_file_location("tool_assignment", TOOL)
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)

    def run(*args):
        monkeypatch.setattr(sys, "argv", ["assignment.py", "tiny.py", *map(str, args)])
        try:
            code = tool.main()
        except SystemExit as stop:
            code = stop.code
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    yield run
    MMLogger._instance_dict.pop("assignment", None)


def test_a_sheet_for_each_image_and_a_table(call, tmp_path):
    code, said, error = call("--num", 2, "--heads", "FCOSHead", "GFLHead")
    assert (code, error) == (0, "")
    sheets = [f"work_dirs/tiny/assignment/{name}.png" for name in ("000000", "000007")]
    lines = said.splitlines()
    assert lines[:2] == sheets
    assert lines[2] == "work_dirs/tiny/assignment/assignment.html"
    assert lines[4].startswith("2 images")
    assert [line.split(" |")[0].strip() for line in lines[6:]] == ["FCOSHead", "GFLHead (IoU untrained)"]
    assert all((tmp_path / sheet).stat().st_size > 10_000 for sheet in sheets)
    page = (tmp_path / lines[2]).read_text()
    assert "<title>tiny: assignment</title>" in page
    assert '"columns":["FCOSHead","GFLHead (IoU untrained)"]' in page
    assert page.count('id="scene-') == 2


def test_flags(call, tmp_path):
    flags = ["--images", "000003.jpg", "--no-augment", "--no-levels", "--columns", 1, "--format", "svg", "--seed", 5]
    code, said, error = call(
        "--split", "val", *flags, "--out", "here", "--no-html", "--assigners", "ATSSAssigner:topk=3"
    )
    assert (code, error) == (0, "")
    assert said.startswith("here/000003.svg\n\n1 image ")
    assert [file.name for file in (tmp_path / "here").iterdir()] == ["000003.svg"]
    text = (tmp_path / "here" / "000003.svg").read_text()
    assert text.count('<g id="axes_') == 3  # photo, points, legend


@pytest.mark.parametrize(("number", "images"), [((), 8), ((3,), 3)])
def test_statistics(call, tmp_path, number, images):
    code, said, error = call("--stats", *number, "--assigners", "FCOSAssigner", "ATSSAssigner", "--out", "here")
    assert (code, error) == (0, "")
    lines = said.splitlines()
    assert [line.split(" |")[0].strip() for line in lines[1:]] == [
        *("assigner", lines[2].split(" |")[0].strip(), "FCOSAssigner", "ATSSAssigner"),
        *("", "here/assignment_statistics.png, and tables beside it"),
    ]
    names = ["assignment_statistics.png", "by_class.csv", "by_level.csv", "by_size.csv"]
    assert sorted(path.name for path in (tmp_path / "here").iterdir()) == [
        *names,
        *("comparison.csv", "comparison.md", "objects.csv"),
    ]
    with (tmp_path / "here" / "comparison.csv").open(newline="") as file:
        assert [row["images"] for row in csv.DictReader(file)] == [str(images)] * 2


@pytest.mark.parametrize(
    ("args", "match"),
    [
        (["--stats", 0], "error: argument --stats: must be a number of images, or nothing for all, but got 0"),
        (["--images", "none.jpg"], "error: --images none.jpg: none of the 8 images"),
        (["--index", 99], "error: --index 99: the data set has 8 images"),
        (["--checkpoint", "none.pth"], "error: checkpoint: there is no checkpoint none.pth"),
        (["--heads", "GFLHed"], "error: 'GFLHed' is not in the"),
        (["--assigners", "ATSSAssigner:tpk=3"], "error: tpk: ATSSAssigner has no such key. Did you mean 'topk'?"),
        (["--heads", "GFLHead", "--assigners", "ATSSAssigner"], "not allowed with argument --heads"),
        (["--index", 1, "--images", "a.jpg"], "not allowed with argument"),
        (["--columns", 0], "error: --columns must be at least 1"),
    ],
)
def test_bad_input_is_a_line_and_two(call, tmp_path, args, match):
    code, said, error = call(*args)
    assert code == 2
    assert said == ""
    assert match in error.splitlines()[-1]
    assert not (tmp_path / "work_dirs").exists()


def test_the_tool_says_what_it_takes(tmp_path):
    """Also where the package is not installed and the folder is another."""
    command = [sys.executable, str(TOOL), "--help"]
    ran = subprocess.run(command, cwd=tmp_path, env=ENV, capture_output=True, text=True, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert "--assigners NAME[:KEY=VALUE,...]" in ran.stdout
