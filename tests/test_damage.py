import contextlib
import io

import pytest
import torch

from densehead.damage import damage_of


@pytest.fixture
def content():
    file = io.BytesIO()
    torch.save({"state_dict": {"weight": torch.arange(1000.0), "bias": torch.ones(3)}}, file)
    return file.getvalue()


def test_a_whole_file(tmp_path, content):
    assert damage_of(io.BytesIO(content)) is None
    (tmp_path / "epoch_1.pth").write_bytes(content)
    assert damage_of(tmp_path / "epoch_1.pth") is None
    assert damage_of(str(tmp_path / "epoch_1.pth")) is None


def test_a_flipped_bit_of_a_weight(content):
    """torch.load reads it as another weight."""
    place = content.index(torch.arange(1000.0).numpy().tobytes()) + 2000
    flipped = bytearray(content)
    flipped[place] ^= 1
    loaded = torch.load(io.BytesIO(bytes(flipped)), weights_only=True)["state_dict"]["weight"]
    assert not torch.equal(loaded, torch.arange(1000.0))
    assert "does not match its checksum" in damage_of(io.BytesIO(bytes(flipped)))


def test_no_flipped_bit_changes_a_file_unseen(content):
    """Whatever byte of a file is wrong: it is said, or PyTorch refuses the file, or what is read is the same."""
    expected = torch.load(io.BytesIO(content), weights_only=True)["state_dict"]
    for place in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        if damage_of(io.BytesIO(bytes(flipped))) is None:
            with contextlib.suppress(RuntimeError):  # the archive's own headers, which are no part of a record
                loaded = torch.load(io.BytesIO(bytes(flipped)), weights_only=True)["state_dict"]
                assert all(torch.equal(loaded[name], value) for name, value in expected.items()), place


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.99])
def test_a_truncated_file(content, share):
    part = content[: int(share * len(content))]
    assert damage_of(io.BytesIO(part)) == (
        "is not whole (the list of its records is damaged or missing)" if part else "is empty"
    )


def test_other_files(tmp_path):
    assert damage_of(io.BytesIO(bytes(1000))) == "is no file of torch.save"  # what a power cut leaves of some disks
    torch.save(torch.ones(3), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    assert damage_of(tmp_path / "old.pth") is None
    assert damage_of(tmp_path) == "cannot be read (Is a directory)"
    with pytest.raises(FileNotFoundError):
        damage_of(tmp_path / "none.pth")
