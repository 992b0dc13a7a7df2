from __future__ import annotations

import copy
import json

import cv2
import numpy as np
import pytest

from densehead.datasets import validate

CONTENT = {
    "images": [
        {"id": 7, "file_name": "a.jpg", "height": 60, "width": 80},
        {"id": 3, "file_name": "b.jpg", "height": 50, "width": 40},
        {"id": 9, "file_name": "c.jpg", "height": 20, "width": 30},
    ],
    "categories": [{"id": 11, "name": "cat"}, {"id": 5, "name": "dog"}, {"id": 8, "name": "bird"}],
    "annotations": [
        {"id": 1, "image_id": 7, "category_id": 11, "bbox": [1, 2, 10, 20], "area": 200, "iscrowd": 0},
        {"id": 2, "image_id": 3, "category_id": 5, "bbox": [0, 0, 5.5, 6], "area": 33, "iscrowd": 0},
        {"id": 3, "image_id": 7, "category_id": 8, "bbox": [30, 30, 20, 10], "area": 90, "iscrowd": 1},
    ],
}


@pytest.fixture
def said(monkeypatch) -> list[str]:
    """What the data sets log."""
    messages: list[str] = []
    monkeypatch.setattr(validate, "print_log", lambda message, **_: messages.append(message))
    return messages


@pytest.fixture
def coco():
    """The content of a small COCO file: 3 images, the last without an object; a crowd in the first."""
    return copy.deepcopy(CONTENT)


@pytest.fixture
def write_coco(tmp_path):
    """Write a COCO file ``ann.json`` and return the keys of the data set that reads it."""

    def write(content, classes=("cat", "dog", "bird"), **keys):
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / "ann.json").write_text(text)
        root = str(tmp_path)
        return {
            "data_root": root,
            "ann_file": "ann.json",
            "data_prefix": {"img": "img"},
            "metainfo": {"classes": classes},
            "serialize_data": False,  # it collects garbage, which takes long
            **keys,
        }

    return write


@pytest.fixture
def picture():
    """Write an image of random pixels and return it."""

    def write(path, height=60, width=80):
        path.parent.mkdir(parents=True, exist_ok=True)
        image = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
        assert cv2.imwrite(str(path), image)
        return image

    return write
