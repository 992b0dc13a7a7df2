"""A training that ends with a loss that is not finite, and the step repeated, from the command line."""

import importlib.util
import json
import os
import re
import subprocess
import sys
import time

import pytest

from densehead.files import as_typed
from tests.engine.planted import PoisonHook
from tests.engine.tiny import ROOT, tiny_config
from tests.tools.test_tools import ENV, rename

IMPORTS = {"imports": ["tests.engine.planted"], "allow_failed_imports": False}


@pytest.fixture
def write(tmp_path, data_root):
    """Return a function that writes the config of a training that goes wrong, and returns its path."""

    def made(**poison):
        hooks = [{"type": "PoisonHook", **poison}] if poison else []
        options = {"default_hooks__summary": None, "train_cfg__max_epochs": 1, "custom_imports": IMPORTS}
        cfg = tiny_config(tmp_path, data_root, custom_hooks=hooks, **options)
        cfg.pop("work_dir")
        cfg.dump(tmp_path / "tiny.py")
        return tmp_path / "tiny.py"

    return made


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """Return a function that calls a tool in this process: its exit code and what it said."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LOCAL_RANK", "0")
    monkeypatch.delenv("DENSEHEAD_TRACEBACK", raising=False)

    def run(tool, *args):
        spec = importlib.util.spec_from_file_location("tool", ROOT / "tools" / tool)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        monkeypatch.setattr(sys, "argv", [tool, *map(str, args)])
        rename(args[0])
        code = module.main()
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


def test_a_training_and_its_replay(write, call, monkeypatch):
    code, _, error = call("train.py", write(what="image", iteration=2))
    assert code == 3
    folder = "work_dirs/tiny/loss_not_finite_iter_2"
    expected = (
        rf"error: iteration 2: loss_cls is nan, .* image 1 \(\d+\.jpg\) has 1 of 12288 numbers .*Report: {folder}; "
    )
    assert re.match(expected + rf"to repeat the step: python tools/analysis/replay\.py {folder}\n$", error), error
    code, said, error = call("analysis/replay.py", folder)
    assert (code, error) == (0, "")
    assert said.startswith("loss_cls is nan\nloss_bbox is nan\n")
    assert said.endswith("\nThe same as in the report.\n")
    code, said, _ = call("analysis/replay.py", folder, "--anomaly")
    assert code == 0
    assert re.search(
        r"Anomaly detection: Function '\w+Backward0' returned nan values in its 0th output\.\n  File ", said
    )
    told = json.loads(open_text(f"{folder}/report.json"))
    told["fault"]["inputs"] = [[0, 1, 12288]]
    with open(f"{folder}/report.json", "w") as file:
        json.dump(told, file)
    code, said, _ = call("analysis/replay.py", folder)
    assert code == 1
    assert said.endswith("Not the same as in the report:\n  images: image 0 no longer\n  images: image 1 as well\n")


def open_text(path):
    with open(path) as file:
        return file.read()


def test_a_step_that_is_finite_again(write, call, monkeypatch):
    """The loss was not finite for a reason that is not in the batch."""
    monkeypatch.setattr(PoisonHook, "before_train_iter", spoil_the_loss)
    assert call("train.py", write(what="loss"))[0] == 3
    monkeypatch.undo()
    monkeypatch.chdir(as_typed(write().parent))
    code, said, _ = call("analysis/replay.py", "work_dirs/tiny/loss_not_finite_iter_1")
    assert code == 1
    assert re.match(r"loss_cls is \d\.\d+\nloss_bbox is ", said)
    assert said.endswith("Not the same as in the report:\n  all losses are finite\n")


def spoil_the_loss(self, runner, batch_idx, data_batch=None):
    loss = runner.model.bbox_head.loss_bbox
    loss.loss_weight = float("nan")


def test_what_cannot_be_repeated(tmp_path, call):
    code, _, error = call("analysis/replay.py", tmp_path)
    assert (code, len(error.splitlines())) == (2, 1)
    assert error.endswith("is no report of a loss that was not finite: it has no report.json\n")
    code, _, error = call("analysis/replay.py", tmp_path, "--device", "cuda:70")
    assert code == 2


@pytest.mark.slow
def test_one_of_two_processes(tmp_path, data_root, write):
    """Process 1 sees it, writes alone, and the other does not wait for ever."""
    path = write(what="weight", iteration=2)
    text = path.read_text().replace("what='weight'", "what='image', image=0")
    path.write_text(text)
    script = tmp_path / "one_rank.py"
    script.write_text(
        "import os, sys\nfrom tests.engine.planted import PoisonHook\n"
        "if os.environ['RANK'] != '1':\n    PoisonHook.before_train_iter = lambda *args, **options: None\n"
        "from pathlib import Path\nimport runpy\n"
        f"sys.argv[0] = {str(ROOT / 'tools' / 'train.py')!r}\nrunpy.run_path(sys.argv[0], run_name='__main__')\n"
    )
    env = {**ENV, "CUDA_VISIBLE_DEVICES": "", "PYTHONPATH": str(ROOT)}
    port = str(20000 + int(time.time()) % 10000)
    launch = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={port}"]
    ran = subprocess.run(
        [*launch, str(script), str(path), "--launcher", "pytorch"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=150,
    )
    assert ran.returncode != 0
    assert "error: iteration 2: loss_cls is nan" in ran.stderr
    (folder,) = (tmp_path / "work_dirs" / "tiny").glob("loss_not_finite*")
    assert folder.name == "loss_not_finite_iter_2_rank_1"
    assert sorted(os.listdir(folder)) == ["config.py", "images.png", "report.json", "report.txt", "step.pth"]
    replay = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "analysis" / "replay.py"), str(folder)],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert replay.returncode == 0, replay.stdout + replay.stderr
