"""A data set as its files say it, in columns: before anything is filtered, clipped or left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from densehead.analysis.doctor.findings import Example, Finding
from densehead.datasets.validate import BoxCheck, check_boxes


@dataclass
class Annotations:
    """The images and boxes of an annotation file.

    Attributes:
        file: the annotation file.
        item: what a box is called in messages: ``annotation``, ``object``.
        image_ids, image_paths: of each image.
        sources: of each image the file that its boxes stand in; ``image_paths`` where that is one for all.
        sizes: (I, 2) width and height in pixels as annotated; NaN where the file does not say.
        names: all categories of the file.
        boxes: (n, 4) xyxy in pixels, counted from 0, in the file's order.
        writing: how the file writes boxes: ``size`` (corner and size), ``corners`` (two of them), or ``parts`` (centre
            and size as parts of the image).
        origin: the number of the first pixel in the file.
        areas: (n,) of the annotated objects; None where they are not known.
        box_ids: of each box, what names it in its file.
        box_entries: (n,) the place of each box among all boxes of its file, those that cannot be read included.
        image_entries: (I,) likewise of each image among those of ``file``.
        image_index: (n,) the image of each box.
        name_index: (n,) its category.
        is_ignored: (n,) bool, crowds and difficult ones.
        is_left_out: (n,) bool, what training leaves out because the file says so.
        faults: what could not be read.
    """

    file: str
    item: str
    image_ids: Sequence
    image_paths: list[str]
    sources: list[str]
    sizes: np.ndarray
    names: list[str]
    boxes: np.ndarray
    box_ids: Sequence
    box_entries: np.ndarray
    image_entries: np.ndarray
    image_index: np.ndarray
    name_index: np.ndarray
    is_ignored: np.ndarray
    is_left_out: np.ndarray
    writing: str = "size"
    origin: int = 0
    areas: np.ndarray | None = None
    faults: list[Finding] = field(default_factory=list)

    @property
    def num_images(self) -> int:
        """Number of images."""
        return len(self.image_paths)

    def counts(self) -> dict[str, int]:
        """Return how many boxes each category has."""
        return dict(zip(self.names, np.bincount(self.name_index, minlength=len(self.names)).tolist(), strict=True))

    def labels(self, classes: Sequence[str]) -> np.ndarray:
        """Return (n,) the label of each box, -1 where its category is none of ``classes``."""
        label_of = {name: label for label, name in enumerate(classes)}
        lookup = np.array([label_of.get(name, -1) for name in self.names], dtype=np.int64)
        return lookup[self.name_index] if len(lookup) else self.name_index

    def check(self) -> BoxCheck:
        """Clip and drop boxes as training does; an image whose size is not known has no border."""
        sizes = np.where(np.isnan(self.sizes), np.inf, self.sizes)[self.image_index]
        return check_boxes(self.boxes, *sizes.T, self.areas)

    def written(self, box: int, corners: np.ndarray | None = None) -> str:
        """Return a box as its file writes it, or as it would write other ``corners`` (4,) xyxy."""
        corners = self.boxes[box] if corners is None else corners
        with np.errstate(invalid="ignore"):
            low, high = corners[:2], corners[2:]
            if self.writing == "corners":
                numbers = corners + self.origin
            elif self.writing == "size":
                numbers = np.concatenate([low, high - low])
            else:
                numbers = np.concatenate([(low + high) / 2, high - low]) / np.tile(self.sizes[self.image_index[box]], 2)
        return f"[{', '.join(f'{number:.6g}' for number in numbers)}]"

    def box_example(self, box: int, detail: str = "") -> Example:
        """Describe a box by its file, its name in it and, unless there is a ``detail``, its numbers."""
        image = self.image_index[box]
        if not detail:
            detail = f"{self.names[self.name_index[box]]} {self.written(box)}"
            size = self.sizes[image]
            detail += "" if np.isnan(size).any() else f" in {size[0]:g} x {size[1]:g}"
        return Example(self.sources[image], f"{self.item} {self.box_ids[box]}", detail)
