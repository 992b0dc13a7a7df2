"""Small data sets in the manner of YOLO."""

from __future__ import annotations

import cv2
import numpy as np


def write_yolo(root, labels, files=None, size=(60, 80), images="images", texts="labels"):
    """Write an image (height, width) for each name, its label file unless that is None, and further text files."""
    for name, text in labels.items():
        image = root / images / f"{name}.jpg"
        image.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(image), np.zeros((*size, 3), np.uint8))
        if text is not None:
            label = root / texts / f"{name}.txt"
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text(text, encoding="utf-8")
    for name, text in (files or {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return root
