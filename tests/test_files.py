import os
from pathlib import Path

import pytest

from densehead.files import as_typed, whole_file, whole_folder


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


def test_a_folder_is_whole_or_not_there(tmp_path):
    def fill(error=None):
        with whole_folder(tmp_path / "in" / "report") as folder:
            assert not (tmp_path / "in" / "report").exists()
            (folder / "a.txt").write_text("a")
            if error is not None:
                raise error

    with pytest.raises(KeyboardInterrupt):
        fill(KeyboardInterrupt())
    assert os.listdir(tmp_path / "in") == []
    fill()
    assert os.listdir(tmp_path / "in") == ["report"]
    assert (tmp_path / "in" / "report" / "a.txt").read_text() == "a"
    with pytest.raises(FileExistsError, match="report is there already"):
        fill()
    assert os.listdir(tmp_path / "in") == ["report"]


def test_as_typed(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert as_typed(tmp_path / "here" / "run" / "a") == os.path.join("run", "a")
    assert as_typed(Path("run")) == "run"
    assert as_typed(tmp_path / "there") == str(tmp_path / "there")
