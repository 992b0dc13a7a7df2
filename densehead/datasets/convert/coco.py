"""COCO: reading and writing its annotation files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence

import numpy as np

from densehead.datasets import validate
from densehead.datasets.coco_file import (
    annotation_columns,
    count_categories,
    find_images,
    read_coco,
    to_xyxy,
    without_gc,
)
from densehead.datasets.convert.images import ImageCopies
from densehead.datasets.convert.record import ImageRecord, Mark, Record, SplitRecord, checked_split, require_inner

_DIGITS = 6  # of a pixel


@without_gc()
def read_coco_split(config: Mapping, classes: Sequence[str]) -> SplitRecord:
    """Read a split of COCO.

    Args:
        config: of a ``CocoDataset``, as :func:`~densehead.datasets.formats.recognise` returns it.
        classes: the names that labels stand for; objects of others are left out.
    """
    path = os.path.join(config["data_root"], config["ann_file"])
    folder = os.path.join(config["data_root"], config["data_prefix"]["img"])
    content = read_coco(path)
    annotations = content["annotations"]
    columns = annotation_columns(annotations, path)
    count_categories(content["categories"], columns["category_id"], path)
    label_of = {one["id"]: classes.index(one["name"]) for one in content["categories"] if one["name"] in classes}
    images = [_image(one, index, folder, path) for index, one in enumerate(content["images"])]
    validate.require_unique([image.name for image in images], "image", path)
    image_index = find_images(columns["image_id"], [one["id"] for one in content["images"]], path)
    labels = np.array([label_of.get(one, -1) for one in columns["category_id"]], dtype=np.int64)
    difficult = np.array([bool(one.get("difficult")) for one in annotations], dtype=bool)
    marks = np.select(
        [difficult, columns["iscrowd"], columns["ignore"]], [Mark.DIFFICULT, Mark.ISCROWD, Mark.IGNORE], Mark.NONE
    )
    shapes = sum(bool(one.get("segmentation") or one.get("keypoints")) for one in annotations)
    if shapes:
        validate.inform(f"{path}: {shapes} objects have masks or key points; their boxes alone are taken.")
    known = np.flatnonzero((labels >= 0) & (image_index >= 0))
    return checked_split(
        images,
        to_xyxy(columns["bbox"][known]),
        labels[known],
        marks[known],
        image_index[known],
        source=path,
        areas=columns["area"][known],
    )


def _image(entry: Mapping, index: int, folder: str, path: str) -> ImageRecord:
    name = require_inner(entry["file_name"], f"{path}: images[{index}]")
    return ImageRecord(name, os.path.join(folder, name), entry["width"], entry["height"])


def write_coco(record: Record, folder: str, copies: ImageCopies) -> list[str]:
    """Write ``annotations/<split>.json`` and ``<split>/``, the images under their names.

    Difficult objects become crowds, which COCO's evaluation leaves out; ``difficult`` stands beside, to come back.
    Return what is to be said.
    """
    os.makedirs(os.path.join(folder, "annotations"))
    categories = [{"id": index, "name": name} for index, name in enumerate(record.classes, 1)]
    for split, of_split in record.splits.items():
        images: list[dict] = []
        annotations: list[dict] = []
        for image, objects in of_split.by_image():
            copies.add(image.path, f"{split}/{image.name}")
            images.append(
                {"id": len(images) + 1, "file_name": image.name, "width": image.width, "height": image.height}
            )
            for box, label, mark in objects:
                annotations.append(_annotation(len(annotations) + 1, len(images), box, label, mark))
        content = {"images": images, "annotations": annotations, "categories": categories}
        with open(os.path.join(folder, "annotations", f"{split}.json"), "w", encoding="utf-8") as file:
            json.dump(content, file, ensure_ascii=False)
    return []


def _annotation(number: int, image: int, box: Sequence[float], label: int, mark: int) -> dict:
    left, top, right, bottom = box
    width, height = round(right - left, _DIGITS), round(bottom - top, _DIGITS)
    annotation = {
        "id": number,
        "image_id": image,
        "category_id": label + 1,
        "bbox": [round(left, _DIGITS), round(top, _DIGITS), width, height],
        "area": round(width * height, _DIGITS),
        "iscrowd": int(mark in (Mark.DIFFICULT, Mark.ISCROWD)),
    }
    if mark in (Mark.DIFFICULT, Mark.IGNORE):
        annotation[Mark(mark).name.lower()] = 1
    return annotation
