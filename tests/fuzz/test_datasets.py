"""Annotation files with damage: read, or refused by a message that names the file."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass

import pytest
from hypothesis import strategies as st

from densehead.datasets import CocoDataset, XMLDataset, YOLODataset
from tests.datasets.small import write_coco, write_voc, write_yolo
from tests.fuzz.running import CASES, try_many, try_some

ROOT = dict(metainfo={"classes": ("cat", "dog")}, serialize_data=False)
FILES = {  # which file of which layout is damaged, and how the data set is read
    "coco": ("ann.json", lambda root: CocoDataset(data_root=root, ann_file="ann.json", **ROOT)),
    "voc": ("Annotations/a.xml", lambda root: XMLDataset(data_root=root, ann_file="ImageSets/Main/train.txt", **ROOT)),
    "voc list": (
        "ImageSets/Main/train.txt",
        lambda root: XMLDataset(data_root=root, ann_file=FILES["voc list"][0], **ROOT),
    ),
    "yolo": ("labels/a.txt", lambda root: YOLODataset(data_root=root, data_prefix={"img": "images"}, **ROOT)),
    "yolo list": ("train.txt", lambda root: YOLODataset(data_root=root, ann_file="train.txt", **ROOT)),
    "yolo yaml": ("data.yaml", lambda root: YOLODataset(data_root=root, ann_file="data.yaml", serialize_data=False)),
}
PIECES = (
    b"", b"\0", b"\xff\xfe", b"NaN", b"-1", b"1e999", b"999999999999999999999", b"null", b"[]", b"{}", b'"', b"<", b">",
    b"</object>", b"<object>", b"\n", b"../", b"0 0.5 0.5 nan inf\n", b"true", b"[[[[", b"\xe2\x80\xa8", b": ",
)  # fmt: skip
WORDS = (None, True, -1, 0, 1e308, float("nan"), float("inf"), 10**400, "", "x", [], {}, [1, 2], {"id": 1}, "1", 0.5)


@dataclass(frozen=True)
class Damage:
    """Pieces that take the place of bytes of a file: where (a part of its length), how many bytes, what."""

    kind: str
    cuts: tuple[tuple[float, int, bytes], ...]

    def of(self, data: bytes) -> bytes:
        for place, length, piece in self.cuts:
            start = int(place * len(data))
            data = data[:start] + piece + data[start + length :]
        return data


@dataclass(frozen=True)
class Swap:
    """Another value in a COCO file: the how manieth of all (modulo their number), and what is there instead."""

    places: tuple[tuple[int, int], ...]
    kind: str = "coco"

    def of(self, data: bytes) -> bytes:
        content = json.loads(data)
        for place, word in self.places:
            slots = list(_slots(content))
            if slots:
                owner, key = slots[place % len(slots)]
                owner[key] = copy.deepcopy(WORDS[word])
        return json.dumps(content).encode()


def _slots(value):
    for key, inner in list(value.items() if isinstance(value, dict) else enumerate(value)):
        yield value, key
        if isinstance(inner, dict | list):
            yield from _slots(inner)


def damages():
    cut = st.tuples(st.floats(0, 1), st.sampled_from((0, 1, 3, 20, 10**6)), st.sampled_from(PIECES))
    cuts = st.builds(Damage, st.sampled_from(list(FILES)), st.lists(cut, min_size=1, max_size=3).map(tuple))
    swap = st.tuples(st.integers(0, 200), st.integers(0, len(WORDS) - 1))
    return st.one_of(cuts, cuts, st.builds(Swap, st.lists(swap, min_size=1, max_size=2).map(tuple)))


@pytest.fixture
def check(tmp_path):
    """Check a case: read it, or see it refused."""
    write_coco(tmp_path / "coco" / "ann.json", ["a.jpg", "b.jpg"])
    for kind in ("voc", "voc list"):
        write_voc(tmp_path / kind, {"train": ["a", "b"]})
    for kind in ("yolo", "yolo list", "yolo yaml"):
        row = "0 0.5 0.5 0.25 0.5\n1 0.1 0.1 0.2 0.2\n"
        files = {"train.txt": "images/a.jpg\nimages/b.jpg\n", "data.yaml": "train: images\nnc: 2\nnames: [cat, dog]\n"}
        write_yolo(tmp_path / kind, {"a": row, "b": row}, files if kind != "yolo" else {})
    whole = {kind: (tmp_path / kind / file).read_bytes() for kind, (file, _) in FILES.items()}

    def check(case):
        file, read = FILES[case.kind]
        path = tmp_path / case.kind / file
        path.write_bytes(case.of(whole[case.kind]))
        before = path.read_bytes()
        try:
            dataset = read(str(tmp_path / case.kind))
        except (ValueError, FileNotFoundError) as error:
            said = str(error)
            assert str(tmp_path / case.kind) in said or file in said, said
        else:
            for index in range(len(dataset)):
                for one in dataset.get_data_info(index)["instances"]:
                    left, top, right, bottom = one["bbox"]
                    assert 0 <= left < right
                    assert 0 <= top < bottom
                    assert 0 <= one["bbox_label"] < len(dataset.metainfo["classes"])
        assert path.read_bytes() == before

    return check


def test_some_cases(check):
    try_some(damages(), check, 400)


@pytest.mark.fuzz
def test_many_cases(check, record_property):
    try_many(damages(), check, CASES, "annotation files", record_property)
