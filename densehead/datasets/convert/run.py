"""Converting a data set from one format into another."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from densehead.datasets.convert.coco import read_coco_split, write_coco
from densehead.datasets.convert.images import ImageCopies, require_images
from densehead.datasets.convert.record import Mark, Record, require_line
from densehead.datasets.convert.voc import read_voc_split, write_voc
from densehead.datasets.convert.yolo import read_yolo_split, write_yolo
from densehead.datasets.formats import FORMATS, FoundDataset, recognise
from densehead.datasets.validate import listed
from densehead.files import whole_folder

_READERS = {"coco": read_coco_split, "voc": read_voc_split, "yolo": read_yolo_split}
_WRITERS = {"coco": write_coco, "voc": write_voc, "yolo": write_yolo}
# What becomes of a mark in a format
_FATE = {
    ("coco", Mark.DIFFICULT): "are written as crowds (iscrowd), which are left out of evaluation too",
    ("voc", Mark.ISCROWD): "are written as difficult",
    ("voc", Mark.IGNORE): "are written as difficult",
    ("yolo", True): "are written like any other, since label files cannot mark them",
    ("yolo", False): "are left out, since label files cannot mark them",
}


@dataclass(frozen=True)
class Conversion:
    """What was converted.

    Attributes:
        source: the data set that was read.
        images: how many each split has.
        objects: likewise.
        notes: what changed its meaning on the way, sentences.
    """

    source: FoundDataset
    images: dict[str, int]
    objects: dict[str, int]
    notes: list[str]


def convert(
    source: str | os.PathLike,
    out: str | os.PathLike,
    to: str,
    *,
    format: str | None = None,
    splits: Sequence[str] | None = None,
    images: str = "copy",
    keep_marked: bool = False,
) -> Conversion:
    """Convert a data set into another format.

    Boxes are those that densehead's data sets read: clipped to their images, and without those that are none. ``out``
    appears as a whole, or not at all.

    Args:
        source: its folder, which stays as it is.
        out: the new folder; it must not exist, or be empty.
        to: ``'coco'``, ``'voc'`` or ``'yolo'``.
        format: of the source, where it can be taken for several.
        splits: which to convert; all if None.
        images: ``'copy'``, ``'symlink'``, ``'hardlink'`` or ``'none'``, for the annotations alone.
        keep_marked: to YOLO, write difficult, crowd and ignored objects like any other.

    Raises:
        ValueError: the source is not recognised, is of the format already, has no such split, or holds what the other
            format cannot; or ``out`` holds something.
        FileNotFoundError: the source or an image of it does not exist.
    """
    if to not in FORMATS:
        raise ValueError(f"the format to convert to must be one of {listed(FORMATS)}, but got {to!r}")
    if keep_marked and to != "yolo":
        raise ValueError(f"to keep marked objects like any other is for YOLO alone; {to} marks them itself")
    copies = ImageCopies(images)
    _require_free(out)
    found = recognise(source, format)
    if found.format == to:
        raise ValueError(f"{found.root}: is {to} already ({found.layout})")
    record = _read(found, splits)
    if images != "none":
        require_images([image for split in record.splits.values() for image in split.images])
    with whole_folder(out) as folder:
        options = {"keep_marked": keep_marked} if to == "yolo" else {}
        renamed = _WRITERS[to](record, folder, copies, **options)
        copies.bring(folder)
    return Conversion(
        found,
        {name: len(split.images) for name, split in record.splits.items()},
        {name: len(split.labels) for name, split in record.splits.items()},
        [*found.notes, *_notes(record, to, keep_marked), *renamed],
    )


def _read(found: FoundDataset, splits: Sequence[str] | None) -> Record:
    unknown = [one for one in splits or () if one not in found.splits]
    if unknown:
        raise ValueError(f"{found.root}: has no split {listed(unknown)}; it has {listed(found.splits)}")
    for name in found.classes:
        require_line(name, "the class", found.root)
    read = _READERS[found.format]
    return Record(
        found.classes,
        {
            name: read(split.dataset, found.classes)
            for name, split in found.splits.items()
            if not splits or name in splits
        },
    )


def _notes(record: Record, to: str, keep_marked: bool) -> list[str]:
    """Say what became of marks that the format does not have."""
    counts = Counter(mark for split in record.splits.values() for mark in split.marks.tolist())
    notes = []
    for mark in (Mark.DIFFICULT, Mark.ISCROWD, Mark.IGNORE):
        fate = _FATE.get((to, keep_marked if to == "yolo" else mark))
        if counts[mark] and fate:
            notes.append(f"{counts[mark]} objects marked {mark.name.lower()} {fate}.")
    return notes


def _require_free(out: str | os.PathLike) -> None:
    if os.path.lexists(out) and not (os.path.isdir(out) and not os.listdir(out)):
        what = "holds files already" if os.path.isdir(out) else "is a file"
        raise ValueError(f"{out}: {what}; nothing is written over. Name a folder that does not exist, or an empty one")
