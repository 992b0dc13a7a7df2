"""YOLO: reading and writing its label files."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

import numpy as np
import yaml

from densehead.datasets.convert.images import ImageCopies, fit_to_files
from densehead.datasets.convert.names import names_without_ending, told_renamed
from densehead.datasets.convert.record import ImageRecord, Mark, Record, SplitRecord, checked_split, require_inner
from densehead.datasets.yolo import YOLODataset
from densehead.datasets.yolo_images import label_candidates


def read_yolo_split(config: Mapping, classes: Sequence[str]) -> SplitRecord:
    """Read a split of YOLO.

    Args:
        config: of a ``YOLODataset``, as :func:`~densehead.datasets.formats.recognise` returns it.
        classes: the names that labels stand for.
    """
    keys = {key: value for key, value in config.items() if key not in ("type", "metainfo")}
    dataset = YOLODataset(**keys, metainfo={"classes": classes}, lazy_init=True)
    found = dataset.read_objects()
    common = os.path.commonpath([os.path.dirname(info["img_id"]) for info in found.infos])
    images = []
    for info in found.infos:
        name = require_inner(os.path.relpath(info["img_id"], common or os.curdir).replace(os.sep, "/"), dataset.source)
        images.append(ImageRecord(name, info["img_path"], info["width"], info["height"]))
    marks = np.full(len(found.labels), Mark.NONE)
    return checked_split(
        images, found.boxes, found.labels, marks, found.image_index, source=dataset.source, place=found.place
    )


def write_yolo(record: Record, folder: str, copies: ImageCopies, *, keep_marked: bool = False) -> list[str]:
    """Write ``images/<split>/``, ``labels/<split>/`` and ``data.yaml``.

    Boxes are parts of the image as it is loaded, which is looked up in the files. An image without objects gets an
    empty label file. Objects with a mark, which label files cannot have, are left out unless ``keep_marked``. Return
    what is to be said.
    """
    notes: list[str] = []
    for split, of_split in record.splits.items():
        of_split = fit_to_files(of_split)
        name_of = names_without_ending([image.name for image in of_split.images])
        notes += told_renamed(name_of)
        for image, objects in of_split.by_image():
            inner = f"images/{split}/{name_of[image.name]}"
            copies.add(image.path, inner)
            path = label_candidates(os.path.join(folder, inner), folder)[0]
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as file:
                file.writelines(
                    _line(box, label, image) for box, label, mark in objects if keep_marked or mark == Mark.NONE
                )
    content = {split: f"images/{split}" for split in record.splits}
    content.update(nc=len(record.classes), names=list(record.classes))
    with open(os.path.join(folder, "data.yaml"), "w", encoding="utf-8") as file:
        yaml.safe_dump(content, file, allow_unicode=True, sort_keys=False)
    return notes


def _line(box: Sequence[float], label: int, image: ImageRecord) -> str:
    left, top, right, bottom = box
    numbers = (
        (left + right) / 2 / image.width,
        (top + bottom) / 2 / image.height,
        (right - left) / image.width,
        (bottom - top) / image.height,
    )
    return f"{label} {' '.join(f'{number:.9g}' for number in numbers)}\n"
