"""Boxes as mmdetection wraps them: its ``HorizontalBoxes``, which come in and go out at the border only."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

from torch import Tensor


def box_tensor(boxes: Any) -> Tensor:
    """Return boxes (n, 4) as a tensor: themselves, or what a box class holds as ``.tensor``."""
    return boxes if isinstance(boxes, Tensor) else boxes.tensor


def horizontal_boxes(boxes: Tensor) -> Any:
    """Return boxes (n, 4) as mmdetection's ``HorizontalBoxes``; as they are where mmdetection is not installed."""
    if importlib.util.find_spec("mmdet") is None:
        return boxes
    return importlib.import_module("mmdet.structures.bbox").HorizontalBoxes(boxes)
