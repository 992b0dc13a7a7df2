"""Pascal VOC: reading and writing its XML files."""

from __future__ import annotations

import math
import os
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence

import numpy as np

from densehead.datasets.convert.images import ImageCopies
from densehead.datasets.convert.names import names_in_one_folder, told_renamed
from densehead.datasets.convert.record import (
    ImageRecord,
    Mark,
    Record,
    SplitRecord,
    checked_split,
    require_inner,
)
from densehead.datasets.xml_style import XMLDataset


def read_voc_split(config: Mapping, classes: Sequence[str]) -> SplitRecord:
    """Read a split of VOC.

    Args:
        config: of a ``VOCDataset``, as :func:`~densehead.datasets.formats.recognise` returns it.
        classes: the names that labels stand for; objects of others are left out.
    """
    dataset = XMLDataset(**{key: value for key, value in config.items() if key != "type"}, lazy_init=True)
    infos = dataset.read_infos()
    folder = os.path.normpath(os.path.join(dataset.sub_data_root, dataset.img_subdir))
    images = []
    for info in infos:
        require_inner(info["img_id"], dataset.source)
        name = require_inner(os.path.relpath(info["img_path"], folder).replace(os.sep, "/"), info["xml_path"])
        images.append(ImageRecord(name, info["img_path"], info["width"], info["height"]))
    label_of = {name: label for label, name in enumerate(classes)}
    objects = [(index, *one) for index, info in enumerate(infos) for one in info["objects"] if one[0] in label_of]
    return checked_split(
        images,
        np.array([box for _, _, _, box in objects], dtype=np.float64).reshape(-1, 4),
        np.array([label_of[name] for _, name, _, _ in objects], dtype=np.int64),
        np.array([Mark.DIFFICULT if difficult else Mark.NONE for _, _, difficult, _ in objects], dtype=np.int64),
        np.array([index for index, _, _, _ in objects], dtype=np.int64),
        source=dataset.source,
        place=lambda box: infos[objects[box][0]]["xml_path"],
    )


def write_voc(record: Record, folder: str, copies: ImageCopies) -> list[str]:
    """Write ``Annotations/``, ``JPEGImages/``, ``ImageSets/Main/<split>.txt``, and ``classes.txt`` for their order.

    Coordinates are rounded, and count from 1 as VOC's do, so that densehead reads the rounded boxes. What has a mark
    becomes difficult. Return what is to be said.
    """
    for name in record.classes:
        _require_stripped(name, "class")
    name_of = names_in_one_folder(record)
    os.makedirs(os.path.join(folder, "ImageSets", "Main"))
    for split, of_split in record.splits.items():
        ids = []
        for image, objects in of_split.by_image():
            name = name_of[split, image.name]
            stem = os.path.splitext(name)[0]
            _require_stripped(stem, "image")
            ids.append(stem)
            copies.add(image.path, f"JPEGImages/{name}")
            path = os.path.join(folder, "Annotations", f"{stem}.xml")
            os.makedirs(os.path.dirname(path), exist_ok=True)
            _annotation(image, name, objects, record.classes).write(path, encoding="utf-8")
        _write_lines(os.path.join(folder, "ImageSets", "Main", f"{split}.txt"), ids)
    _write_lines(os.path.join(folder, "classes.txt"), record.classes)
    return told_renamed(name_of)


def _annotation(image: ImageRecord, name: str, objects: Sequence, classes: Sequence[str]) -> ET.ElementTree:
    root = ET.Element("annotation")
    _texts(root, folder="JPEGImages", filename=os.path.basename(name))
    _texts(ET.SubElement(root, "size"), width=image.width, height=image.height, depth=3)
    for box, label, mark in objects:
        element = ET.SubElement(root, "object")
        _texts(element, name=classes[label], difficult=int(mark != Mark.NONE))
        sides = zip(("xmin", "ymin", "xmax", "ymax"), whole_pixels(box, image.width, image.height), strict=True)
        _texts(ET.SubElement(element, "bndbox"), **{side: value + 1 for side, value in sides})
    ET.indent(root)
    return ET.ElementTree(root)


def whole_pixels(box: Sequence[float], width: int, height: int) -> list[int]:
    """Return a box xyxy rounded, at least a pixel wide and high, in an image of this size."""
    left, top, right, bottom = (math.floor(side + 0.5) for side in box)
    left, top = min(left, width - 1), min(top, height - 1)
    return [left, top, max(right, left + 1), max(bottom, top + 1)]


def _require_stripped(name: str, what: str) -> None:
    if name != name.strip():
        raise ValueError(f"the {what} {name!r} begins or ends with a space, which VOC's files cannot hold; rename it")


def _texts(parent: ET.Element, **texts: object) -> None:
    for tag, text in texts.items():
        ET.SubElement(parent, tag).text = str(text)


def _write_lines(path: str, lines: Sequence[str]) -> None:
    with open(path, "w", encoding="utf-8") as file:
        file.writelines(f"{line}\n" for line in lines)
