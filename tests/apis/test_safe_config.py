"""Configs of strangers."""

import json
import subprocess
import sys

import pytest
import yaml

from densehead.apis import load_config
from densehead.registry import MODELS
from tests.engine.tiny import ROOT


def write(path, content):
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return path


def test_yaml_and_json_read_as_with_mmengine(tmp_path):
    write(
        tmp_path / "base.yml", {"model": {"type": "GFL", "bbox_head": {"type": "GFLHead", "num_classes": 80}}, "a": 1}
    )
    more = {"_base_": "base.yml", "model": {"bbox_head": {"num_classes": 3, "loss_bbox": {"type": "GIoULoss"}}}}
    (tmp_path / "config.json").write_text(json.dumps(more))
    file = write(tmp_path / "config.yaml", more)
    read = load_config(file, {"a": 2}, safe=True)
    assert read.to_dict() == load_config(file, {"a": 2}).to_dict()
    assert read.to_dict() == load_config(tmp_path / "config.json", {"a": 2}, safe=True).to_dict()
    assert read.filename == str(file)
    assert read.model.bbox_head.num_classes == 3


def test_a_base_key_can_be_deleted(tmp_path):
    write(tmp_path / "base.yaml", {"hook": {"type": "EMAHook", "lr": 1}})
    read = load_config(
        write(tmp_path / "c.yaml", {"_base_": ["base.yaml"], "hook": {"_delete_": True, "type": "EMAHook"}}),
        safe=True,
    )
    assert read.hook == {"type": "EMAHook"}


@pytest.mark.parametrize("name", ["c.py", "c.yaml"])
def test_programs_are_refused_and_not_run(tmp_path, name):
    write(tmp_path / "base.py", f"__import__('os').mkdir({str(tmp_path / 'ran')!r})\na = 1\n")
    content = "_base_ = 'base.py'\n" if name == "c.py" else {"_base_": "base.py"}
    file = write(tmp_path / name, content)
    with pytest.raises(
        ValueError, match=r"^--safe reads configs of \.yaml, \.yml, \.json only, not .*\.py, which is a"
    ):
        load_config(file, safe=True)
    assert not (tmp_path / "ran").exists()
    load_config(file)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("tag", ["!!python/object/apply:os.mkdir", "!!python/name:os.system"])
def test_objects_in_yaml_are_refused_and_not_made(tmp_path, tag):
    file = write(tmp_path / "c.yaml", f"a: {tag} [{tmp_path / 'ran'}]\n")
    with pytest.raises(ValueError, match=r"c.yaml cannot be read as plain data: could not determine a constructor"):
        load_config(file, safe=True)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "place"),
    [
        ({"model": {"neck": [{"type": "os.mkdir", "path": "ran"}]}}, r"model\.neck\[0\]\.type='os\.mkdir'"),
        ({"model": {"type": "mmengine.load", "file": "a.pkl"}}, r"model\.type='mmengine\.load'"),
        ({"model": {"type": "densehead.models.GFL"}}, r"model\.type='densehead\.models\.GFL'"),
        ({"model": {"type": "antigravity"}}, r"model\.type='antigravity'"),
        ({"model": {"type": ["os.mkdir"]}}, r"model\.type=\['os\.mkdir'\]"),
        ({"optim_wrapper": {"constructor": "os.mkdir"}}, r"optim_wrapper\.constructor='os\.mkdir'"),
        ({"runner_type": "subprocess.Popen"}, r"runner_type='subprocess\.Popen'"),
        ({"custom_imports": {"imports": ["evil"]}}, r"has custom_imports, which run the code"),
        ({"default_scope": "evil"}, r"default_scope='evil' is none of the scopes"),
        ({"model": {"type": "GFL", "_scope_": "evil"}}, r"model\._scope_='evil' is none of the scopes"),
        ({"a": "{{ fileDirname }}"}, r"has templates \(\{\{ \}\}\)"),
        ([1], "must hold a mapping"),
        ("a: [1", "cannot be read as plain data"),
    ],
)
def test_what_could_run_code_is_named(tmp_path, content, place):
    with pytest.raises(ValueError, match=place) as caught:
        load_config(write(tmp_path / "c.yaml", content), safe=True)
    assert "\n" not in str(caught.value)
    assert "c.yaml" in str(caught.value)


@pytest.mark.parametrize("tool", ["train.py", "test.py"])
def test_tools_say_so_in_a_line(tmp_path, tool):
    file = write(tmp_path / "c.py", f"import os\nos.mkdir({str(tmp_path / 'ran')!r})\n")
    arguments = [file] if tool == "train.py" else [file, "none.pth"]
    run = subprocess.run(
        [sys.executable, ROOT / "tools" / tool, *arguments, "--safe"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 2
    *others, line = run.stderr.splitlines()  # importing an old mmengine under PyTorch 2.4 prints a warning
    assert line.startswith("error: --safe reads configs of .yaml, .yml, .json only")
    assert "Traceback" not in "".join(others)
    assert not (tmp_path / "ran").exists()


def test_such_a_type_is_run_without_safe(tmp_path):
    """That is what it is refused for."""
    MODELS.build(load_config(write(tmp_path / "c.yaml", {"a": {"type": "os.mkdir", "path": str(tmp_path / "ran")}})).a)
    assert (tmp_path / "ran").exists()


def test_bases_that_are_missing_or_go_round(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none.yaml: there is no such config file"):
        load_config(write(tmp_path / "c.yaml", {"_base_": "none.yaml"}), safe=True)
    with pytest.raises(ValueError, match="without an end"):
        load_config(write(tmp_path / "c.yaml", {"_base_": "c.yaml"}), safe=True)


def test_every_config_of_the_library_may_be_dumped_and_read(tmp_path):
    """Nothing in them is more than settings."""
    for file in (ROOT / "configs" / "quickstart").glob("*.py"):
        cfg = load_config(file)
        cfg.dump(tmp_path / f"{file.stem}.yaml")
        assert load_config(tmp_path / f"{file.stem}.yaml", safe=True).keys() == cfg.keys()
