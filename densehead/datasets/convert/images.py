"""Image files on their way into a converted data set, and the boxes in images that a tag turns."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from densehead.datasets import validate
from densehead.datasets.convert.record import ImageRecord, SplitRecord, checked_split
from densehead.datasets.image_size import image_size, in_threads, read_header

HOW = ("copy", "symlink", "hardlink", "none")


class ImageCopies:
    """Collects which image file goes where, and brings all there at the end.

    Args:
        how: ``'copy'``, ``'symlink'`` (to the file itself, by its whole path), ``'hardlink'`` or ``'none'``.
    """

    def __init__(self, how: str = "copy") -> None:
        if how not in HOW:
            raise ValueError(f"images must be one of {validate.listed(HOW)}, but got {how!r}")
        self.how = how
        self._source_of: dict[str, str] = {}

    def add(self, source: str, target: str) -> None:
        """Note that the file ``source`` becomes ``target``, relative to the new folder.

        Raises:
            ValueError: another file becomes that already.
        """
        if self._source_of.setdefault(target, source) != source:
            raise ValueError(f"both {self._source_of[target]!r} and {source!r} would become {target!r}; rename one")

    def bring(self, folder: str) -> None:
        """Bring all files into ``folder``.

        Raises:
            ValueError: a file cannot be read, written or linked.
        """
        if self.how == "none":
            return
        targets = [os.path.join(folder, target) for target in self._source_of]
        for parent in {os.path.dirname(target) for target in targets}:
            os.makedirs(parent, exist_ok=True)
        for _ in in_threads(self._one, list(zip(self._source_of.values(), targets, strict=True))):
            pass

    def _one(self, pair: tuple[str, str]) -> None:
        source, target = pair
        bring = {"copy": shutil.copyfile, "symlink": os.symlink, "hardlink": os.link}[self.how]
        try:
            bring(os.path.realpath(source), target)
        except OSError as error:
            raise ValueError(f"the image {source!r} cannot be brought over ({self.how}): {error}") from error


def require_images(images: Sequence[ImageRecord]) -> None:
    """Raise a FileNotFoundError where image files are not there."""
    absent = [image.path for image in images if not os.path.isfile(image.path)]
    if absent:
        raise FileNotFoundError(
            f"{len(absent)} of {len(images)} images are not there, the first {absent[0]!r}. Without images "
            "(--no-images) the annotations alone are converted"
        )


def fit_to_files(split: SplitRecord) -> SplitRecord:
    """Return a split with the sizes that its images have when they are loaded; where a file is not there, as annotated.

    Boxes that were drawn on an image which its EXIF tag turns are turned with it. An image of another size than
    annotated keeps its boxes in pixels, as in training.
    """
    sizes = list(in_threads(_size_of_file, [image.path for image in split.images]))
    differing = {
        index
        for index, (image, size) in enumerate(zip(split.images, sizes, strict=True))
        if size is not None and size != (image.height, image.width)
    }
    if not differing:
        return split
    boxes, images = split.boxes.copy(), list(split.images)
    turned = 0
    for index in differing:
        image, (height, width) = images[index], sizes[index]
        images[index] = replace(image, width=width, height=height)
        if (image.height, image.width) == (width, height) and (tag := read_header(image.path).orientation) > 4:
            of_image = slice(*np.searchsorted(split.image_index, [index, index + 1]))
            boxes[of_image] = turn_boxes(boxes[of_image], image.width, image.height, tag)
            turned += 1
    validate.warn(
        f"{len(differing)} images are of another size than annotated, the first {images[min(differing)].path!r}: "
        f"{turned} of them since a tag turns them, with which their boxes were turned; in the others boxes stay as "
        "they are, in pixels."
    )
    return checked_split(images, boxes, split.labels, split.marks, split.image_index, source="the images")


def turn_boxes(boxes: np.ndarray, width: int, height: int, orientation: int) -> np.ndarray:
    """Return where boxes come to lie when an image is turned as its EXIF tag says.

    Args:
        boxes: (n, 4) xyxy in the image as it lies in the file.
        width: of that image, pixels.
        height: likewise.
        orientation: 5 to 8, those that swap the sides.
    """
    left, top, right, bottom = boxes.T
    if orientation in (6, 7):
        top, bottom = height - bottom, height - top
    if orientation in (7, 8):
        left, right = width - right, width - left
    return np.stack([top, left, bottom, right], 1)


def _size_of_file(path: str) -> tuple[int, int] | None:
    return image_size(path) if os.path.isfile(path) else None
