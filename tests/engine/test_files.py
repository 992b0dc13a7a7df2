import os
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import pytest
import torch
from mmengine.fileio import get_file_backend
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint

from densehead.engine import files
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


def save(path, age):
    torch.save({"state_dict": {"weight": torch.arange(100.0)}}, path)
    os.utime(path, (1_000_000 - age, 1_000_000 - age))
    return path


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    """Change a bit of a weight, which torch.load reads without a word."""
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(100.0).numpy().tobytes()) + 41] ^= 4
    path.write_bytes(content)


@pytest.fixture
def said(monkeypatch):
    """What is logged when a checkpoint is looked for."""
    lines = []
    monkeypatch.setattr(files, "print_log", lambda text, **options: lines.append(text))
    return lines


def test_find_last_checkpoint(tmp_path, said):
    assert find_last_checkpoint(tmp_path / "none") is None
    save(tmp_path / "best_coco_bbox_mAP_epoch_2.pth", 0)
    assert find_last_checkpoint(tmp_path) is None
    save(tmp_path / "epoch_9.pth", 2)
    newest = save(tmp_path / "epoch_10.pth", 1)
    assert find_last_checkpoint(tmp_path) == str(newest)
    named = save(tmp_path / "interrupted.pth", 3)
    note = tmp_path / "last_checkpoint"
    note.write_text(str(named))
    assert find_last_checkpoint(tmp_path) == str(named)
    note.write_text("/where/it/was/before/epoch_9.pth")
    assert find_last_checkpoint(tmp_path) == str(tmp_path / "epoch_9.pth")
    for text in ("", "\0\0\0"):  # killed, or the power cut, while the note was written
        note.write_text(text)
        assert find_last_checkpoint(tmp_path) == str(newest)
    assert not said
    note.write_text("/gone/epoch_1.pth")
    assert find_last_checkpoint(tmp_path) == str(newest)
    assert said == [f"--resume: /gone/epoch_1.pth is not there. Going on from {newest} instead"]


def test_the_named_checkpoint_is_gone_and_there_is_no_other(tmp_path, said):
    (tmp_path / "last_checkpoint").write_text(str(tmp_path / "epoch_1.pth"))
    assert find_last_checkpoint(tmp_path) is None
    assert not said


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncate, "is not whole"),
        (flip, "is damaged (its record "),
        (lambda path: path.write_bytes(b""), "is empty"),
        (lambda path: path.write_bytes(bytes(1000)), "is no file of torch.save"),
    ],
    ids=["truncated", "flipped", "empty", "zeros"],
)
def test_a_damaged_checkpoint_is_passed_over(tmp_path, said, damage, reason):
    folder = tmp_path / "elsewhere"  # out_dir of the hook
    folder.mkdir()
    for epoch in (1, 2, 3):
        save(folder / f"epoch_{epoch}.pth", -epoch)
    (tmp_path / "last_checkpoint").write_text(str(folder / "epoch_3.pth"))
    damage(folder / "epoch_3.pth")
    assert find_last_checkpoint(tmp_path) == str(folder / "epoch_2.pth")
    assert len(said) == 1
    assert said[0].startswith(f"--resume: {folder / 'epoch_3.pth'} {reason}")
    assert said[0].endswith(f". Going on from {folder / 'epoch_2.pth'} instead")
    damage(folder / "epoch_2.pth")
    damage(folder / "epoch_1.pth")
    with pytest.raises(ValueError, match=r"no checkpoint in .* can be gone on from: .*epoch_3.*;.*;.*begin anew"):
        find_last_checkpoint(tmp_path)


def test_one_process_of_several_says_it(tmp_path, said, monkeypatch):
    save(tmp_path / "epoch_1.pth", 0)
    save(tmp_path / "epoch_2.pth", -1).write_bytes(b"")
    monkeypatch.setenv("RANK", "1")
    assert find_last_checkpoint(tmp_path) == str(tmp_path / "epoch_1.pth")
    assert not said


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
