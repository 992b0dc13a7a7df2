"""What a folder of data holds: COCO, Pascal VOC or YOLO, in the layouts in which they are handed around."""

from __future__ import annotations

import os

from densehead.datasets.formats.coco import find_coco
from densehead.datasets.formats.found import FoundDataset, FoundSplit, NotThisFormat
from densehead.datasets.formats.voc import find_voc
from densehead.datasets.formats.yolo import find_yolo
from densehead.datasets.validate import listed

__all__ = ["FORMATS", "FoundDataset", "FoundSplit", "recognise"]

FORMATS = {"coco": find_coco, "voc": find_voc, "yolo": find_yolo}


def recognise(folder: str | os.PathLike, format: str | None = None) -> FoundDataset:
    """Look at a folder and say which data set it holds, with what a config needs to read it.

    Nothing is written. COCO's annotation files are read whole; so are the XML files of VOC, since they alone name the
    classes; of YOLO the lists of images and some label files.

    Args:
        folder: the data root.
        format: ``'coco'``, ``'voc'`` or ``'yolo'``, to look for that alone.

    Returns:
        What was found; ``found.train``, ``found.val`` and ``found.test`` are configs of data sets, without a pipeline.

    Raises:
        FileNotFoundError: there is no such folder.
        ValueError: it holds none of the formats, or several of them, or a file of one is broken.
    """
    root = os.path.normpath(folder)
    if not os.path.isdir(root):
        raise FileNotFoundError(f"{root}: there is no such folder")
    if format is not None and format not in FORMATS:
        raise ValueError(f"format must be one of {listed(FORMATS)}, but got {format!r}")
    found, reasons = [], []
    for name in [format] if format else FORMATS:
        try:
            found.append(FORMATS[name](root))
        except NotThisFormat as reason:
            reasons.append(str(reason))
    if len(found) > 1:
        kinds = " and ".join(f"{one.format} ({one.layout})" for one in found)
        raise ValueError(f"{root}: holds more than one data set: {kinds}. Say which is meant: format, or --from")
    if not found:
        there = listed(sorted(os.listdir(root)), 12)
        tried = "".join(f"\n  - {reason}" for reason in reasons)
        raise ValueError(f"{root}: no data set was recognised. The folder holds: {there}. Looked for:{tried}")
    return found[0]
