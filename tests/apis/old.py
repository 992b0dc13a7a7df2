"""Configs of mmdetection 2.x that the tests have, and a small data set for them."""

from __future__ import annotations

import json
from pathlib import Path

import mmcv
import numpy as np
from mmengine.config import Config

FOLDER = Path(__file__).resolve().parents[1] / "data" / "mmdet2"
HEADS = ("fcos", "atss", "gfl", "vfnet", "paa", "autoassign")
VOC_OBJECT = "<object><name>dog</name><difficult>0</difficult>{}</object>"
BOX = (10, 12, 50, 48)


def read(name: str) -> Config:
    return Config.fromfile(FOLDER / f"{name}.py")


def write_coco(file: Path, images: Path, categories=("person",), count: int = 4) -> None:
    """Write a COCO annotation file, and images of 64 x 64 pixels with a bright box in each."""
    rng = np.random.default_rng(0)
    x1, y1, x2, y2 = BOX
    annotations = []
    for index in range(count):
        image = rng.integers(0, 60, (64, 64, 3), dtype=np.uint8)
        image[y1:y2, x1:x2] += 150
        mmcv.imwrite(image, str(images / f"{index}.png"))
        box = {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1), "iscrowd": 0}
        annotations.append({"id": index, "image_id": index, "category_id": 1 + index % len(categories), **box})
    names = [{"id": index, "name": name} for index, name in enumerate(categories, 1)]
    infos = [{"id": index, "file_name": f"{index}.png", "height": 64, "width": 64} for index in range(count)]
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"images": infos, "annotations": annotations, "categories": names}))


def write_voc(folder: Path, file: str, count: int = 4) -> None:
    """Write a part of Pascal VOC, ``<folder>/<year>/...``."""
    x1, y1, x2, y2 = BOX
    box = f"<bndbox><xmin>{x1}</xmin><ymin>{y1}</ymin><xmax>{x2}</xmax><ymax>{y2}</ymax></bndbox>"
    year = folder / file.partition("/")[0]
    for sub in ("JPEGImages", "Annotations"):
        (year / sub).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        mmcv.imwrite(np.full((64, 64, 3), 40 * index, dtype=np.uint8), str(year / "JPEGImages" / f"{index}.jpg"))
        size = "<size><width>64</width><height>64</height><depth>3</depth></size>"
        text = f"<annotation>{size}{VOC_OBJECT.format(box)}</annotation>"
        (year / "Annotations" / f"{index}.xml").write_text(text)
    (folder / file).parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_text("".join(f"{index}\n" for index in range(count)))


def write_data(folder: Path) -> None:
    """Write what the configs read, below ``folder``."""
    for year, part in (("VOC2007", "trainval"), ("VOC2012", "trainval"), ("VOC2007", "test")):
        write_voc(folder / "data" / "VOCdevkit", f"{year}/ImageSets/Main/{part}.txt")
    for part in ("train2017", "val2017"):
        write_coco(folder / "data" / "coco" / "annotations" / f"instances_{part}.json", folder / "data" / "coco" / part)
    for part in ("first", "second", "val"):
        cells = folder / "data" / "cells"
        write_coco(cells / f"{part}.json", cells / "images", ("cell", "platelet"))
