from __future__ import annotations

import pytest

from densehead.apis.analysis.outputs import written_whole


def test_all_or_nothing(tmp_path):
    out = tmp_path / "new" / "out"
    with written_whole(out) as folder:
        (folder / "a.txt").write_text("first")
        (folder / "inner").mkdir()
        (folder / "inner" / "b.txt").write_text("b")
        assert not out.exists()
    assert (out / "inner" / "b.txt").read_text() == "b"
    with pytest.raises(KeyError):
        _fail(out)
    assert (out / "a.txt").read_text() == "first"
    with written_whole(out) as folder:
        (folder / "a.txt").write_text("third")
    assert (out / "a.txt").read_text() == "third"
    assert sorted(one.name for one in out.iterdir()) == ["a.txt", "inner"]
    assert [one.name for one in tmp_path.iterdir()] == ["new"]


def _fail(out):
    with written_whole(out) as folder:
        (folder / "a.txt").write_text("second")
        raise KeyError


def test_a_file_is_no_folder(tmp_path):
    (tmp_path / "out").write_text("")
    with pytest.raises(ValueError, match="out is a file, but must be a folder"), written_whole(tmp_path / "out"):
        pass
