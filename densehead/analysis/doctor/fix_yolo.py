"""Writing a list of images and their label files, cleaned."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from densehead.analysis.doctor.parts import Part
from densehead.analysis.doctor.repairs import Repairs
from densehead.datasets.yolo_labels import read_label_file

LABELS = "labels"


def write_yolo(part: Part, repairs: Repairs, folder: Path) -> Path:
    """Write a list of images and, into ``labels``, their label files and the names of the classes; return the list.

    Lines in which nothing changes are copied as they are.

    Args:
        part: the data set.
        repairs: what is done; gets notes of what could not be used.
        folder: where the copies go.
    """
    found, dataset = part.annotations, part.dataset
    _note_left_out(part, repairs)
    boxes_of = defaultdict(dict)
    for box, (image, line) in enumerate(zip(found.image_index.tolist(), found.box_entries.tolist(), strict=True)):
        boxes_of[image][line] = box
    kept = []
    for image in np.flatnonzero(repairs.keep_image).tolist():
        path, source = found.image_paths[image], found.sources[image]
        inner = os.path.relpath(path, dataset.image_folder)
        kept.append(inner)
        if source == path:  # there is no label file
            continue
        target = folder / LABELS / f"{os.path.splitext(inner)[0]}.txt"
        target.parent.mkdir(parents=True, exist_ok=True)
        lines = _cleaned(source, boxes_of[image], part, repairs)
        target.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (folder / LABELS).mkdir(exist_ok=True)
    (folder / LABELS / "classes.txt").write_text("".join(f"{name}\n" for name in found.names), encoding="utf-8")
    listing = folder / "images.txt"
    listing.write_text("".join(f"{inner}\n" for inner in kept), encoding="utf-8")
    return listing


def yolo_options(part: Part, file: Path) -> dict[str, str]:
    """Return the keys that make a data set read what :func:`write_yolo` wrote."""
    dataset = part.dataset
    options = {"ann_file": str(file), "data_prefix.labels": str(file.parent / LABELS)}
    if not dataset.data_root:
        options |= {"data_root": os.path.abspath(dataset.finder.root)}
        options |= {"data_prefix.img": os.path.abspath(dataset.image_folder)}
    return options


def _note_left_out(part: Part, repairs: Repairs) -> None:
    readable = set(part.annotations.image_entries.tolist())
    for index, one in enumerate(part.dataset.list_images()):
        if index not in readable:
            repairs.note("images left out whose label file cannot be read", one.path)


def _cleaned(source: str, boxes: dict[int, int], part: Part, repairs: Repairs) -> Sequence[str]:
    """The lines of a label file after the repairs."""
    kept = []
    for number, line in enumerate((read_label_file(source) or "").splitlines(), 1):
        box = boxes.get(number)
        if box is None and line.strip():
            repairs.note("lines left out that cannot be used", source, f"line {number}")
        elif box is not None and box in repairs.clipped:
            kept.append(_written(box, part, repairs.clipped[box]))
        elif box is not None and repairs.keep_box[box]:
            kept.append(line)
    return kept


def _written(box: int, part: Part, corners: np.ndarray) -> str:
    found = part.annotations
    width, height = found.sizes[found.image_index[box]]
    left, top, right, bottom = corners / (width, height, width, height)
    numbers = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    return f"{found.name_index[box]} {' '.join(f'{number:.9g}' for number in numbers)}"
