import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.engine.tiny import ROOT

FILES = {
    "mmdet/__init__.py": "raise SystemExit",
    "mmdet/.mim/configs/gfl/gfl_r50.py": "_base_ = '../_base_/runtime.py'\n",
    "mmdet/.mim/configs/_base_/runtime.py": "default_scope = 'mmdet'\n",
    "mmdet/.mim/configs/gfl/metafile.yml": "",
    "mmdet/.mim/tools/train.py": "",
}


@pytest.fixture
def tool():
    spec = importlib.util.spec_from_file_location("fetch_mmdet_configs", ROOT / "tools" / "fetch_mmdet_configs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def call(tool, tmp_path, monkeypatch, capsys):
    """Return a function that calls the tool with a pip of its own: its exit code and what it said."""

    def run(pip):
        monkeypatch.setattr(subprocess, "run", pip)
        monkeypatch.setattr(sys, "argv", ["fetch_mmdet_configs.py", "--to", str(tmp_path / "configs")])
        code = tool.main()
        return code, capsys.readouterr()

    return run


def test_only_configs_are_unpacked(call, tmp_path):
    def pip(command, **kwargs):
        assert command[-1] == "mmdet==3.3.0"
        with zipfile.ZipFile(Path(command[command.index("--dest") + 1]) / "mmdet-3.3.0-py3-none-any.whl", "w") as wheel:
            for name, text in FILES.items():
                wheel.writestr(name, text)
        return subprocess.CompletedProcess(command, 0, "", "")

    code, said = call(pip)
    assert (code, said.err) == (0, "")
    assert said.out.endswith("configs: 2 configs of mmdet==3.3.0\n")
    written = {path.relative_to(tmp_path / "configs").as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert written == {"gfl/gfl_r50.py", "_base_/runtime.py"}


def test_without_a_network(call):
    said = "WARNING: Retrying\nERROR: No matching distribution found for mmdet==3.3.0\n"
    code, captured = call(lambda command, **kwargs: subprocess.CompletedProcess(command, 1, "", said))
    assert code == 2
    assert captured.err == (
        "error: mmdet==3.3.0 cannot be downloaded: ERROR: No matching distribution found for mmdet==3.3.0\n"
    )


def test_a_network_that_does_not_answer(call):
    def pip(command, *, timeout, **kwargs):
        raise subprocess.TimeoutExpired(command, timeout)

    code, captured = call(pip)
    assert (code, captured.err) == (2, "error: mmdet==3.3.0 is not here after 300 s\n")
