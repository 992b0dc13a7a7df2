"""Small data sets in the layouts in which they are handed around, written by hand."""

from __future__ import annotations

import json

import cv2
import numpy as np

LINE = "0 0.5 0.5 0.25 0.5\n"


def write_image(path, size=(60, 80), shade=0):
    """Write an image (height, width) of one shade of grey, black if not said."""
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((*size, 3), shade, np.uint8))


def write_yolo(root, labels, files=None, size=(60, 80), images="images", texts="labels"):
    """Write an image for each name, its label file unless that is None, and further text files."""
    for name, text in labels.items():
        write_image(root / images / f"{name}.jpg", size)
        if text is not None:
            write_text(root / texts / f"{name}.txt", text)
    for name, text in (files or {}).items():
        write_text(root / name, text)
    return root


def write_text(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def write_coco(file, names, folder=None, classes=("cat", "dog"), size=(60, 80), **content):
    """Write a COCO file with a box of the first class in each image, and the images into ``folder``."""
    images = [{"id": i, "file_name": name, "height": size[0], "width": size[1]} for i, name in enumerate(names)]
    annotations = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [30, 15, 20, 30], "area": 600, "iscrowd": 0}
        for i in range(len(names))
    ]
    categories = [{"id": i, "name": name, "supercategory": "none"} for i, name in enumerate(classes, 1)]
    write_text(file, json.dumps({"images": images, "annotations": annotations, "categories": categories, **content}))
    for name in names if folder is not None else ():
        write_image(folder / name, size)


def write_voc(root, lists, images="JPEGImages", annotations="Annotations", name="cat", size=(60, 80)):
    """Write an image and an XML file for every id in the lists, and the lists."""
    for split, ids in lists.items():
        write_text(root / "ImageSets" / "Main" / f"{split}.txt", "".join(f"{one}\n" for one in ids))
        for one in ids:
            write_image(root / images / f"{one}.jpg", size)
            write_text(root / annotations / f"{one}.xml", xml_of(f"{one}.jpg", name, size))


def xml_of(filename, name="cat", size=(60, 80), box=(31, 16, 51, 46), extra=""):
    """An XML file of one object; the usual box is (30, 15, 50, 45) counted from 0."""
    sides = "".join(f"<{side}>{x}</{side}>" for side, x in zip(("xmin", "ymin", "xmax", "ymax"), box))
    return (
        f"<annotation><filename>{filename}</filename><size><width>{size[1]}</width><height>{size[0]}</height></size>"
        f"<object><name>{name}</name>{extra}<bndbox>{sides}</bndbox></object></annotation>"
    )
