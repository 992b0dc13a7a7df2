"""Pickle files that are read without running what they say."""

import io
import os
import pathlib
import pickle
from collections import OrderedDict

import numpy as np
import pytest
import torch

from densehead.safe_load import read_pickle


def read(data):
    return read_pickle(data, key="--detections", name="found.pkl")


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_what_detections_are_made_of_comes_back(protocol):
    boxes = torch.arange(24, dtype=torch.float32).reshape(6, 4)
    found = {
        "pred_instances": OrderedDict(bboxes=boxes[1:3], labels=torch.tensor([1, 2]), half=boxes.half()),
        "scale_factor": (np.float32(0.5), np.array([[1.0, 2.0]])[:, ::-1].T),
        "img_path": pathlib.Path("a/b.jpg"),
        "sizes": {(1, 2), torch.Size([3])},
        "flip": None,
    }
    back = read(pickle.dumps([found], protocol=protocol))[0]
    for name, value in found["pred_instances"].items():
        assert torch.equal(back["pred_instances"][name], value)
        assert back["pred_instances"][name].dtype == value.dtype
    assert back["scale_factor"][0] == np.float32(0.5)
    assert back["scale_factor"][1].tolist() == [[2], [1]]
    assert {name: back[name] for name in ("img_path", "sizes", "flip")} == {
        name: found[name] for name in ("img_path", "sizes", "flip")
    }


class Bomb:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def test_a_bomb_is_named_and_does_not_go_off(tmp_path):
    with pytest.raises(ValueError, match=r"--detections: found.pkl is not read: it holds a posix.mkdir"):
        read(pickle.dumps([Bomb(str(tmp_path / "off"))]))
    assert not list(tmp_path.iterdir())


class Wrapped:
    """A bomb in the numbers of a tensor, which PyTorch's own reader takes as a file of its own."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        stream = io.BytesIO()
        torch.save(Bomb(self.path), stream)
        return torch.storage._load_from_bytes, (stream.getvalue(),)


def test_a_bomb_in_a_tensor_does_not_go_off(tmp_path):
    with pytest.raises(ValueError, match="mkdir"):
        read(pickle.dumps([Wrapped(str(tmp_path / "off"))]))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("data", [b"", b"nonsense", pickle.dumps([1, 2])[:-3]])
def test_damaged_files_are_named(data):
    with pytest.raises(ValueError, match=r"--detections: found.pkl cannot be read as a pickle file"):
        read(data)
