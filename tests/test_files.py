import os
from pathlib import Path

import pytest

from densehead.files import as_typed, whole_file, whole_folder


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


def test_a_file_stays_as_it_was_where_writing_fails(tmp_path):
    path = tmp_path / "new" / "table.csv"
    with whole_file(path) as temporary:
        temporary.write_text("first")
    with pytest.raises(ZeroDivisionError), whole_file(path) as temporary:
        temporary.write_text(f"{1 / 0}")
    assert path.read_text() == "first"
    assert os.listdir(path.parent) == ["table.csv"]


def test_as_typed(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert as_typed(tmp_path / "here" / "run" / "a") == os.path.join("run", "a")
    assert as_typed(Path("run")) == "run"
    assert as_typed(tmp_path / "there") == str(tmp_path / "there")
