import os
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import pytest
import torch
from mmengine.fileio import get_file_backend
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint

from densehead.engine.files import ATOMIC, AtomicBackend, allow_checkpoints, find_last_checkpoint
from densehead.version import parse_version


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


class Elsewhere:
    """Pickled as a call of getattr."""

    def __reduce__(self):
        return getattr, (HistoryBuffer, "__init__")


@pytest.mark.skipif(parse_version(torch.__version__) < (2, 6), reason="reads everything")
def test_checkpoints_are_read_where_mmengine_does_not_care_for_it(tmp_path, monkeypatch):
    file = tmp_path / "epoch_1.pth"
    torch.save({"loss": HistoryBuffer([1.0, 2.0], [1, 1]), "best": np.float64(3)}, file)
    torch.save(Elsewhere(), tmp_path / "other.pth")
    known = torch.serialization.get_safe_globals()
    torch.serialization.clear_safe_globals()
    monkeypatch.delattr(checkpoint, "get_torch_safe_globals", raising=False)
    try:
        with pytest.raises(UnpicklingError):
            torch.load(file, weights_only=True)
        allow_checkpoints()
        loaded = torch.load(file, weights_only=True)
        with pytest.raises(UnpicklingError, match="which none of mmengine does"):
            torch.load(tmp_path / "other.pth", weights_only=True)
    finally:
        torch.serialization.clear_safe_globals()
        torch.serialization.add_safe_globals(known)
    assert loaded["loss"].mean() == 1.5
    assert loaded["best"] == 3
