import os
from pathlib import Path

import pytest
from mmengine.fileio import get_file_backend

from densehead.engine.files import ATOMIC, AtomicBackend, find_last_checkpoint


@pytest.mark.parametrize(("owner", "step"), [(os, "fsync"), (Path, "replace")])
def test_a_file_is_whole_or_as_before(tmp_path, monkeypatch, owner, step):
    backend = get_file_backend(str(tmp_path), backend_args={"backend": ATOMIC})
    assert isinstance(backend, AtomicBackend)
    path = tmp_path / "new" / "epoch_1.pth"
    backend.put(b"first", str(path))
    assert path.read_bytes() == b"first"

    def killed(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(owner, step, killed)
    with pytest.raises(KeyboardInterrupt):
        backend.put(b"second", str(path))
    assert path.read_bytes() == b"first"
    assert os.listdir(path.parent) == ["epoch_1.pth"]


def touch(path, age):
    path.write_bytes(b"")
    os.utime(path, (1_000_000 - age, 1_000_000 - age))
    return path


def test_find_last_checkpoint(tmp_path):
    assert find_last_checkpoint(tmp_path / "none") is None
    touch(tmp_path / "best_coco_bbox_mAP_epoch_2.pth", 0)
    assert find_last_checkpoint(tmp_path) is None
    touch(tmp_path / "epoch_9.pth", 2)
    newest = touch(tmp_path / "epoch_10.pth", 1)
    assert find_last_checkpoint(tmp_path) == str(newest)
    named = touch(tmp_path / "interrupted.pth", 3)
    note = tmp_path / "last_checkpoint"
    note.write_text(str(named))
    assert find_last_checkpoint(tmp_path) == str(named)
    note.write_text("/where/it/was/before/epoch_9.pth")
    assert find_last_checkpoint(tmp_path) == str(tmp_path / "epoch_9.pth")
    for text in ("/gone/epoch_1.pth", ""):  # removed by hand; or the process was killed while it wrote the note
        note.write_text(text)
        assert find_last_checkpoint(tmp_path) == str(newest)
