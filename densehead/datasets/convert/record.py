"""A data set between two formats: its images, boxes, classes and what is marked about objects."""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from unicodedata import category

import numpy as np

from densehead.datasets import validate


class Mark(IntEnum):
    """What a format says of an object that is neither to be found nor missed."""

    NONE = 0
    DIFFICULT = 1
    ISCROWD = 2
    IGNORE = 3


@dataclass(frozen=True)
class ImageRecord:
    """An image: its name in the folder of its split (with ``/``), its file, width and height in pixels."""

    name: str
    path: str
    width: int
    height: int


@dataclass(frozen=True)
class SplitRecord:
    """Images and the objects in them, these in the order of their images.

    Attributes:
        images: the images.
        boxes: (n, 4) xyxy, pixels, inside the images.
        labels: (n,) indices of classes.
        marks: (n,) values of :class:`Mark`.
        image_index: (n,) index of each object's image, ascending.
    """

    images: Sequence[ImageRecord]
    boxes: np.ndarray
    labels: np.ndarray
    marks: np.ndarray
    image_index: np.ndarray

    def by_image(self) -> Iterator[tuple[ImageRecord, list[tuple[list[float], int, int]]]]:
        """Yield each image with its objects: box, label and mark."""
        starts = np.searchsorted(self.image_index, np.arange(len(self.images) + 1))
        objects = list(zip(self.boxes.tolist(), self.labels.tolist(), self.marks.tolist(), strict=True))
        for index, image in enumerate(self.images):
            yield image, objects[starts[index] : starts[index + 1]]


@dataclass(frozen=True)
class Record:
    """A data set: the names of its classes, and its splits by their names."""

    classes: tuple[str, ...]
    splits: Mapping[str, SplitRecord]


def checked_split(
    images: Sequence[ImageRecord],
    boxes: np.ndarray,
    labels: np.ndarray,
    marks: np.ndarray,
    image_index: np.ndarray,
    *,
    source: str,
    place: Callable[[int], str] | None = None,
    areas: np.ndarray | None = None,
) -> SplitRecord:
    """Return the record of a split, its boxes clipped to the images and without those that are none.

    They are the boxes that the data sets of densehead read, and what is dropped or clipped is said as they say it.

    Args:
        images: the images, any number.
        boxes: (n, 4) xyxy, pixels.
        labels: (n,) indices of classes.
        marks: (n,) values of :class:`Mark`.
        image_index: (n,) index of each object's image.
        source: file or folder, for messages.
        place: says where a box stands, for messages.
        areas: (n,) of the objects where they are known, square pixels.
    """
    sizes = np.array([(image.width, image.height) for image in images], dtype=np.float64).reshape(-1, 2)
    check = validate.check_boxes(boxes, *sizes[image_index].T, areas)
    validate.report_boxes(check, boxes, place or (lambda box: images[image_index[box]].path), source)
    kept = np.flatnonzero(check.keep)
    kept = kept[np.argsort(image_index[kept], kind="stable")]
    return SplitRecord(images, check.boxes[kept], labels[kept], marks[kept], image_index[kept])


def require_inner(name: str, place: str) -> str:
    """Return the name of an image, from the folder of its split on.

    Raises:
        ValueError: it is absolute, leads out of the folder, or cannot be written into a file.
    """
    inner = posixpath.normpath(name)
    if posixpath.isabs(name) or inner == ".." or inner.startswith("../"):
        raise ValueError(
            f"{place}: the image {name!r} lies outside of the folder of images, where nothing is taken from"
        )
    require_line(inner, "the image", place)
    return inner


def require_line(text: str, what: str, place: str) -> None:
    """Raise a ValueError where a name cannot stand in a line of UTF-8 text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError(f"{place}: {what} {text!r} is no valid text; rename it") from None
    if text.splitlines() != [text] or any(category(letter) == "Cc" for letter in text):
        raise ValueError(f"{place}: {what} {text!r} is empty or has control characters; rename it")
