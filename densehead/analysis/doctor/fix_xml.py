"""Writing a list of images and their XML files, cleaned."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

import numpy as np

from densehead.analysis.doctor.parts import Part
from densehead.analysis.doctor.repairs import Repairs
from densehead.datasets.validate import repeated

_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def write_xml(part: Part, repairs: Repairs, folder: Path) -> Path:
    """Write the list and the XML files of a data set into a folder, the latter into ``Annotations``; return the list.

    Files in which nothing changes are copied as they are.

    Args:
        part: the data set.
        repairs: what is done; gets notes of what could not be used.
        folder: where the copies go, under the same names.
    """
    found = part.annotations
    _note_left_out(part, repairs)
    boxes_of = defaultdict(list)
    for box, image in enumerate(found.image_index.tolist()):
        boxes_of[image].append(box)
    (folder / "Annotations").mkdir()
    kept = np.flatnonzero(repairs.keep_image).tolist()
    for image in kept:
        source = Path(found.sources[image])
        target = folder / "Annotations" / f"{found.image_ids[image]}.xml"
        target.parent.mkdir(parents=True, exist_ok=True)  # ids may have folders in them
        target.write_bytes(_cleaned(source, boxes_of[image], part, repairs))
    path = folder / (Path(part.dataset.ann_file).name if part.dataset.ann_file else "images.txt")
    path.write_text("".join(f"{found.image_ids[image]}\n" for image in kept), encoding="utf-8")
    return path


def _note_left_out(part: Part, repairs: Repairs) -> None:
    file, ids = part.annotations.file, part.dataset.list_ids()
    for one, _, _ in repeated(ids):
        repairs.note("lines of the list left out that are there twice", file, one)
    readable = set(part.annotations.image_entries.tolist())
    for index, one in enumerate(dict.fromkeys(ids)):
        if index not in readable:
            repairs.note("images left out whose XML file cannot be read", part.dataset.xml_path(one))


def _cleaned(source: Path, boxes: list[int], part: Part, repairs: Repairs) -> bytes:
    """Return the content of an XML file after the repairs."""
    found, data = part.annotations, source.read_bytes()
    kept = {int(found.box_entries[box]): box for box in boxes if repairs.keep_box[box]}
    root = ET.fromstring(data)
    objects = root.findall("object")
    readable = set(found.box_entries[boxes].tolist())
    for index in range(len(objects)):
        if index not in readable:
            repairs.note("objects left out that cannot be read", str(source), f"object {index}")
    clipped = {index: repairs.clipped[box] for index, box in kept.items() if box in repairs.clipped}
    if len(kept) == len(objects) and not clipped:
        return data
    for index, element in enumerate(objects):
        if index not in kept:
            root.remove(element)
        elif index in clipped:
            for name, side in zip(_CORNERS, clipped[index], strict=True):
                element.find(f"bndbox/{name}").text = str(round(float(side)) + 1)  # VOC counts from 1
    return ET.tostring(root, encoding="utf-8")
