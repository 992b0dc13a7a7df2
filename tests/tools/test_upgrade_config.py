"""tools/upgrade_config.py and the error that names it."""

import importlib.util
import sys

import pytest

from tests.apis.old import FOLDER
from tests.engine.tiny import ROOT


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Return a function that calls a tool in this process: its exit code and what it said."""
    monkeypatch.chdir(tmp_path)

    def run(name, *args):
        spec = importlib.util.spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
        tool = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(tool)
        monkeypatch.setattr(sys, "argv", [f"{name}.py", *map(str, args)])
        code = tool.main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_an_upgrade(call, tmp_path):
    code, said, error = call("upgrade_config", FOLDER / "paa.py", "new/paa.py")
    assert (code, error) == (0, "")
    assert "runner" not in (tmp_path / "new" / "paa.py").read_text().partition("model = ")[2]
    assert "total_epochs  ->  train_cfg = dict(max_epochs=12)\n" in said
    assert "new/paa.py: written, " in said
    assert "To look at (the file says it too):\n  data.train.classes: there is no file nowhere/classes.txt" in said


def test_quietly_and_without_anything_to_look_at(call):
    code, said, error = call("upgrade_config", FOLDER / "fcos.py", "fcos.py", "--quiet")
    assert (code, error) == (0, "")
    assert said.startswith("fcos.py: written, ")
    assert len(said.splitlines()) == 1


def test_a_file_is_written_over_only_by_force(call, tmp_path):
    (tmp_path / "mine.py").write_text("mine")
    code, _, error = call("upgrade_config", FOLDER / "fcos.py", "mine.py")
    assert (code, (tmp_path / "mine.py").read_text()) == (2, "mine")
    assert error == "error: mine.py is there already: give another name, or --force to write over it\n"
    assert call("upgrade_config", FOLDER / "fcos.py", "mine.py", "--force")[0] == 0
    assert "FCOS" in (tmp_path / "mine.py").read_text()


@pytest.mark.parametrize("tool", ["train", "test"])
def test_the_error_of_the_other_tools(call, tool):
    code, _, error = call(tool, FOLDER / "atss.py", *(["none.pth"] if tool == "test" else []))
    assert code == 2
    assert error.startswith(f"error: {FOLDER / 'atss.py'} is written for mmdetection 2.x. What to write today:\n")
    assert error.endswith(f"python tools/upgrade_config.py {FOLDER / 'atss.py'} NEW.py\n")
    assert "Traceback" not in error
