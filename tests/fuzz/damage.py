"""Small data sets in every layout, and damage to the files that describe them."""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from tests.datasets.small import write_coco, write_image, write_voc, write_yolo

CLASSES = ("cat", "dog")
LIST = "ImageSets/Main/train.txt"
NAMED = {"metainfo": {"classes": CLASSES}}
#: Which file of which layout is damaged, and the config of the data set but for its ``data_root``.
LAYOUTS = {
    "coco": ("ann.json", {"type": "CocoDataset", "ann_file": "ann.json", "data_prefix": {"img": "images"}, **NAMED}),
    "voc": ("Annotations/a.xml", {"type": "XMLDataset", "ann_file": LIST, **NAMED}),
    "voc list": (LIST, {"type": "XMLDataset", "ann_file": LIST, **NAMED}),
    "yolo": ("labels/a.txt", {"type": "YOLODataset", "data_prefix": {"img": "images"}, **NAMED}),
    "yolo list": ("train.txt", {"type": "YOLODataset", "ann_file": "train.txt", **NAMED}),
    "yolo yaml": ("data.yaml", {"type": "YOLODataset", "ann_file": "data.yaml"}),
}
PIECES = (
    b"", b"\0", b"\xff\xfe", b"NaN", b"-1", b"1e999", b"999999999999999999999", b"null", b"[]", b"{}", b'"', b"<", b">",
    b"</object>", b"<object>", b"\n", b"../", b"0 0.5 0.5 nan inf\n", b"true", b"[[[[", b"\xe2\x80\xa8", b": ",
    b"9" * 5000, b"[" * 20_000, b"<a>" * 20_000,
)  # fmt: skip
WORDS = (
    None, True, -1, 0, 1e308, float("nan"), float("inf"), 10**400, "", "x", [], {}, [1, 2], {"id": 1}, "1", 0.5, "a\0b",
    "\ud800",
)  # fmt: skip


@dataclass(frozen=True)
class Damage:
    """Pieces that take the place of bytes of a file: where (a part of its length), how many bytes, which of them."""

    kind: str
    cuts: tuple[tuple[float, int, int], ...]

    def of(self, data: bytes) -> bytes:
        for place, length, piece in self.cuts:
            start = int(place * len(data))
            data = data[:start] + PIECES[piece] + data[start + length :]
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


def damages(kinds: Sequence[str] = tuple(LAYOUTS)):
    """Damage to files of the layouts ``kinds``, of which ``'coco'`` must be one."""
    cut = st.tuples(st.floats(0, 1), st.sampled_from((0, 1, 3, 20, 10**6)), st.integers(0, len(PIECES) - 1))
    cuts = st.builds(Damage, st.sampled_from(list(kinds)), st.lists(cut, min_size=1, max_size=3).map(tuple))
    swap = st.tuples(st.integers(0, 200), st.integers(0, len(WORDS) - 1))
    return st.one_of(cuts, cuts, st.builds(Swap, st.lists(swap, min_size=1, max_size=2).map(tuple)))


class Layouts:
    """A data set of two images in each layout, below ``root``; the file of one is damaged at a time."""

    def __init__(self, root: Path) -> None:
        self.root = root
        write_coco(root / "coco" / "ann.json", ["a.jpg", "b.jpg"], root / "coco" / "images")
        for kind in ("voc", "voc list"):
            write_voc(root / kind, {"train": ["a", "b"]})
        row = "0 0.5 0.5 0.25 0.5\n1 0.1 0.1 0.2 0.2\n"
        yaml = "train: images\nnc: 2\nnames: [cat, dog]\n"
        for kind in ("yolo", "yolo list", "yolo yaml"):
            files = {} if kind == "yolo" else {"train.txt": "images/a.jpg\nimages/b.jpg\n", "data.yaml": yaml}
            write_yolo(root / kind, {"a": row, "b": row}, files)
        for file in root.rglob("b.jpg"):  # which is a copy of the other else
            write_image(file, (60, 80), shade=9)
        self.whole = {kind: self.file(kind).read_bytes() for kind in LAYOUTS}

    def folder(self, kind: str) -> Path:
        return self.root / kind

    def file(self, kind: str) -> Path:
        return self.root / kind / LAYOUTS[kind][0]

    def config(self, kind: str) -> dict:
        """Config of the data set."""
        return {**copy.deepcopy(LAYOUTS[kind][1]), "data_root": str(self.root / kind), "serialize_data": False}

    def damage(self, case: Damage | Swap) -> bytes:
        """Write the damaged file of a case, and return what is in it."""
        data = case.of(self.whole[case.kind])
        self.file(case.kind).write_bytes(data)
        return data

    def mend(self, case: Damage | Swap) -> None:
        """Write the file as it was before the damage."""
        self.file(case.kind).write_bytes(self.whole[case.kind])

    def names_file(self, case: Damage | Swap, message: str) -> bool:
        """Whether a message says which file is damaged."""
        return str(self.folder(case.kind)) in message or LAYOUTS[case.kind][0] in message
