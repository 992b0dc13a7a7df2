import os
import subprocess
import sys
from pathlib import Path

import pytest

from densehead.files import as_typed, remove_leftovers, whole_file, whole_files, whole_folder


@pytest.mark.parametrize(("owner", "step"), [(os, "fsync"), (Path, "replace")])
def test_a_file_is_whole_or_as_before(tmp_path, monkeypatch, owner, step):
    path = tmp_path / "new" / "page.html"
    with whole_file(path) as file:
        file.write(b"fir")
        assert not path.exists()
        file.write(b"st")
    assert path.read_bytes() == b"first"

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, step, killed)
    with pytest.raises(KeyboardInterrupt), whole_file(str(path)) as file:
        file.write(b"second")
    assert path.read_bytes() == b"first"
    assert os.listdir(path.parent) == ["page.html"]


def test_an_error_of_the_writer_leaves_nothing(tmp_path):
    with pytest.raises(TypeError), whole_file(tmp_path / "page.html") as file:
        file.writelines([b"half", "no bytes"])
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("exists", [False, True])
def test_a_folder_appears_with_all_its_files(tmp_path, exists):
    path = tmp_path / "new"
    if exists:
        path.mkdir()
    with whole_folder(path) as folder:
        Path(folder, "a").write_text("a")
        assert not path.exists() or not os.listdir(path)
    assert os.listdir(path) == ["a"]
    assert os.listdir(tmp_path) == ["new"]


def test_a_folder_whose_writer_is_stopped_leaves_nothing(tmp_path):
    def stop(file):
        file.write_text("a")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), whole_folder(tmp_path / "new") as folder:
        stop(Path(folder, "a"))
    assert os.listdir(tmp_path) == []


def test_files_of_a_folder_appear_together(tmp_path):
    out = tmp_path / "new" / "out"
    with whole_files(out) as folder:
        (folder / "a.txt").write_text("first")
        (folder / "inner").mkdir()
        (folder / "inner" / "b.txt").write_text("b")
        assert not out.exists()
    assert (out / "inner" / "b.txt").read_text() == "b"

    def fail(folder):
        (folder / "a.txt").write_text("second")
        raise KeyError

    with pytest.raises(KeyError), whole_files(out) as folder:
        fail(folder)
    assert (out / "a.txt").read_text() == "first"
    with whole_files(out) as folder:
        (folder / "a.txt").write_text("third")
    assert (out / "a.txt").read_text() == "third"
    assert sorted(os.listdir(out)) == ["a.txt", "inner"]  # what else is there stays
    assert os.listdir(tmp_path) == ["new"]


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ValueError, match="out is a file, but must be a folder"), whole_files(tmp_path / "out"):
        pass


def test_as_typed(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert as_typed(tmp_path / "here" / "run" / "a") == os.path.join("run", "a")
    assert as_typed(Path("run")) == "run"
    assert as_typed(tmp_path / "there") == str(tmp_path / "there")


def test_what_killed_processes_left_is_removed(tmp_path):
    code = (
        "import os, signal, sys; from densehead.files import whole_file\n"
        "with whole_file(sys.argv[1]) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "epoch_2.pth"]).returncode == -9
    (left,) = os.listdir(tmp_path)
    others = [".epoch_3.pth.notes.tmp", ".page.html.1.tmp", "epoch_1.pth", f".epoch_4.pth.{os.getpid()}.tmp"]
    for name in others:
        (tmp_path / name).touch()
    assert remove_leftovers(tmp_path, ".pth") == [left]
    assert sorted(os.listdir(tmp_path)) == sorted(others)
    assert remove_leftovers(tmp_path / "none", ".pth") == []
