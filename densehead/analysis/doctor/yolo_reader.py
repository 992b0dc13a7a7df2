"""YOLO's label files, read to the last line whatever is wrong in one of them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from densehead.analysis.doctor.annotations import Annotations
from densehead.analysis.doctor.findings import EXAMPLES, Example, Finding, Severity
from densehead.analysis.doctor.progress import Tracker
from densehead.datasets import YOLODataset
from densehead.datasets.data_yaml import read_class_names
from densehead.datasets.image_size import image_size
from densehead.datasets.validate import listed, repeated
from densehead.datasets.yolo_images import inner_path, stray_labels
from densehead.datasets.yolo_labels import LabelRow, read_label_file, split_labels


@dataclass
class YoloImage:
    """What the label file of an image says.

    Attributes:
        path: of the image.
        label_path: of the file; None where there is none.
        size: width and height in pixels, NaN where the image cannot be read.
        rows: the objects.
        faults: of the lines that are none, why; of line 0, why the file cannot be read at all.
    """

    path: str
    label_path: str | None
    size: tuple[float, float] = (np.nan, np.nan)
    rows: list[LabelRow] = field(default_factory=list)
    faults: dict[int, str] = field(default_factory=dict)


def read_yolo_image(dataset: YOLODataset, path: str) -> YoloImage:
    """Read the label file of an image, and the image's header, in whose parts it is written."""
    found = YoloImage(path, None)
    with contextlib.suppress(OSError, ValueError):  # which are said of the image
        found.size = image_size(path)[::-1]
    for candidate in dataset.label_candidates(path):
        try:
            text = read_label_file(candidate)
        except ValueError as error:
            found.label_path, found.faults = candidate, {0: str(error).removeprefix(f"{candidate}: ")}
            break
        if text is not None:
            found.label_path = candidate
            found.rows, found.faults = split_labels(text)
            break
    return found


def class_names(dataset: YOLODataset) -> tuple[str, ...]:
    """Return the names that the numbers in label files stand for.

    Raises:
        ValueError: there are none.
    """
    names = read_class_names(dataset.class_file) if dataset.class_file else dataset.metainfo.get("classes")
    if names is None:
        raise ValueError(
            f"{dataset.source}: the classes have no names. Name them in the order of their numbers: "
            "metainfo=dict(classes=('first', 'second'))"
        )
    return tuple(names)


def read_yolo(dataset: YOLODataset, track: Tracker, workers: int) -> Annotations:
    """Read the label files of all images of a data set.

    Raises:
        ValueError, FileNotFoundError: there are no images, no names of classes, or no label file at all to train on.
    """
    names = class_names(dataset)
    images_listed = dataset.list_images()
    paths = [one.path for one in images_listed]
    with ThreadPoolExecutor(workers) as pool:
        read = pool.map(lambda path: read_yolo_image(dataset, path), paths)
        images = list(track(read, len(paths), f"Reading label files of {dataset.source}"))
    if not dataset.test_mode and not any(image.label_path for image in images):
        raise ValueError(
            f"{dataset.source}: none of {len(images)} images has a label file; that of the first would be "
            f"{listed(dataset.label_candidates(paths[0]))}"
        )
    strays = stray_labels(images_listed, {image.label_path for image in images if image.label_path})
    faults = [*_bad_lines(images, names), *_shared(images), *_strays(strays)]
    return _to_columns(images, names, dataset, faults)


def _to_columns(
    images: list[YoloImage], names: tuple[str, ...], dataset: YOLODataset, faults: list[Finding]
) -> Annotations:
    entries = [index for index, image in enumerate(images) if 0 not in image.faults]
    images = [images[index] for index in entries]
    objects = [(index, row) for index, image in enumerate(images) for row in image.rows if row.label < len(names)]
    image_index = np.array([index for index, _ in objects], dtype=np.int64)
    sizes = np.array([image.size for image in images], dtype=np.float64).reshape(-1, 2)
    has_size = ~np.isnan(sizes).any(1)[image_index]
    parts = np.array([row[2:6] for _, row in objects], dtype=np.float64).reshape(-1, 4)
    boxes = parts * np.where(has_size[:, None], np.tile(sizes, 2)[image_index], 1.0)
    lines = np.array([row.line for _, row in objects], dtype=np.int64)
    return Annotations(
        file=dataset.source,
        item="line",
        image_ids=[inner_path(image.path, dataset.finder.root) for image in images],
        image_paths=[image.path for image in images],
        sources=[image.label_path or image.path for image in images],
        sizes=sizes,
        names=list(names),
        boxes=boxes,
        box_ids=lines,
        box_entries=lines,
        image_entries=np.array(entries, dtype=np.int64),
        image_index=image_index,
        name_index=np.array([row.label for _, row in objects], dtype=np.int64),
        is_ignored=np.zeros(len(objects), dtype=bool),
        is_left_out=~has_size,
        writing="parts",
        faults=faults,
    )


def _bad_lines(images: list[YoloImage], names: tuple[str, ...]) -> Iterable[Finding]:
    bad = [(image.label_path, line, text) for image in images for line, text in image.faults.items()]
    count = len(names)
    for image in images:
        for row in image.rows:
            if row.label >= count:
                bad.append((image.label_path, row.line, f"the class is {row.label}, but there are names for {count}"))
    if bad:
        total = len(bad) + sum(row.label < count for image in images for row in image.rows)
        examples = tuple(Example(path, f"line {line}" if line else "", text) for path, line, text in bad[:EXAMPLES])
        what = "lines of label files cannot be used"
        yield Finding("annotation-entry", Severity.ERROR, what, count=len(bad), total=total, examples=examples)


def _shared(images: list[YoloImage]) -> Iterable[Finding]:
    labelled = [image for image in images if image.label_path]
    again = list(repeated([image.label_path for image in labelled]))
    if again:
        examples = tuple(
            Example(path, "", f"is that of {labelled[first].path} and of {labelled[now].path}")
            for path, first, now in again[:EXAMPLES]
        )
        what = "label files belong to two images"
        yield Finding("id-twice", Severity.ERROR, what, count=len(again), total=len(labelled), examples=examples)


def _strays(paths: list[str]) -> Iterable[Finding]:
    if paths:
        examples = tuple(Example(path) for path in paths[:EXAMPLES])
        what = "label files belong to no image"
        yield Finding("stray-annotation", Severity.WARNING, what, count=len(paths), examples=examples)
