"""Reading a COCO annotation file, with every assumption about it checked."""

from __future__ import annotations

import contextlib
import gc
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from numbers import Real

import numpy as np
from mmengine.fileio import get

from densehead.datasets.validate import listed, require_unique, warn

IMAGE_KEYS = {"id": (int, str), "file_name": str, "height": Real, "width": Real}
CATEGORY_KEYS = {"id": (int, str), "name": str}
ANNOTATION_KEYS = {"image_id": (int, str), "category_id": (int, str), "bbox": Sequence}


@contextlib.contextmanager
def without_gc() -> Iterator[None]:
    """Let the garbage be while millions of small objects are made; looking through them doubles the time of reading."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def read_coco(path: str, backend_args: Mapping | None = None, *, need_annotations: bool = True) -> dict:
    """Read a COCO annotation file and check its images and categories (annotations are checked as they are used).

    Args:
        path: the JSON file.
        backend_args: of mmengine's file backend.
        need_annotations: False allows a file without truth, such as that of a test set.

    Raises:
        ValueError: no JSON, or no COCO: the message names the file and the position or the key.
    """
    content = _parse(get(path, backend_args=backend_args), path)
    if not isinstance(content, dict):
        hint = " (a list is what detection results look like)" if isinstance(content, list) else ""
        raise ValueError(
            f"{path}: a COCO annotation file is a JSON object with the keys 'images', 'annotations' and 'categories', "
            f"but this is a {type(content).__name__}{hint}"
        )
    if not need_annotations:
        content.setdefault("annotations", [])
    for key in ("images", "annotations", "categories"):
        if key not in content:
            raise ValueError(
                f"{path}: is no COCO annotation file: the key {key!r} is missing; the file has {sorted(content)}"
            )
        if not isinstance(content[key], list):
            raise ValueError(f"{path}: {key!r} must be a list, but is a {type(content[key]).__name__}")
    _check_entries(content["images"], "images", IMAGE_KEYS, path)
    _check_entries(content["categories"], "categories", CATEGORY_KEYS, path)
    _check_sizes(content["images"], path)
    require_unique([image["id"] for image in content["images"]], "image id", path)
    require_unique([category["id"] for category in content["categories"]], "category id", path)
    require_unique([category["name"] for category in content["categories"]], "category name", path)
    return content


def annotation_columns(annotations: Sequence[dict], path: str) -> dict[str, np.ndarray | list]:
    """Return the fields of the annotations as columns.

    These are ``bbox`` (n, 4) xywh, ``area`` (n,), ``iscrowd`` and ``ignore`` (n,) bool, and the lists ``image_id`` and
    ``category_id``.

    Raises:
        ValueError: an annotation that lacks a field or has one of another type; the message names it.
    """
    try:
        columns = {
            "image_id": [one["image_id"] for one in annotations],
            "category_id": [one["category_id"] for one in annotations],
            "bbox": np.array([one["bbox"] for one in annotations], dtype=np.float64).reshape(len(annotations), 4),
            "iscrowd": np.array([bool(one.get("iscrowd")) for one in annotations], dtype=bool),
            "ignore": np.array([bool(one.get("ignore")) for one in annotations], dtype=bool),
        }
        area = np.array([one.get("area", np.nan) for one in annotations], dtype=np.float64)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        _check_entries(annotations, "annotations", ANNOTATION_KEYS, path)
        _check_numbers(annotations, path)
        raise ValueError(f"{path}: an annotation cannot be read: {error}") from error
    columns["area"] = np.where(np.isnan(area), columns["bbox"][:, 2] * columns["bbox"][:, 3], area)
    require_unique([one["id"] for one in annotations if "id" in one], "annotation id", path)
    return columns


def count_categories(categories: Sequence[dict], category_ids: Sequence, path: str) -> Counter:
    """Count the annotations of each category; say how many have one that the file does not list."""
    count_of = Counter(category_ids)
    known = {category["id"] for category in categories}
    if unknown := {one: count for one, count in count_of.items() if one not in known}:
        warn(
            f"{path}: {sum(unknown.values())} annotations have a category_id that 'categories' does not "
            f"list, {listed(unknown, 10)}; they are left out."
        )
    return count_of


def find_images(wanted: Sequence, image_ids: Sequence, path: str) -> np.ndarray:
    """Return the index of the image of each annotation, (n,); -1, and that is said, where the file does not list it.

    Args:
        wanted: the ``image_id`` of each annotation.
        image_ids: the ``id`` of each image.
        path: the file.

    Raises:
        ValueError: none is listed.
    """
    index_of = {image_id: index for index, image_id in enumerate(image_ids)}
    image_index = np.array([index_of.get(one, -1) for one in wanted], dtype=np.int64)
    stray = np.flatnonzero(image_index < 0)
    if not len(stray):
        return image_index
    first = wanted[stray[0]]
    told = f"{len(stray)} of {len(image_index)} annotations have an image_id that 'images' does not list"
    if len(stray) == len(image_index):
        known = image_ids[0] if len(image_ids) else None
        raise ValueError(
            f"{path}: all {told}: the first has {first!r} ({type(first).__name__}), an image's id is "
            f"{known!r} ({type(known).__name__}). The ids must be equal, of the same type"
        )
    warn(f"{path}: {told}, the first {first!r}; they are left out.")
    return image_index


def to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """Return boxes (n, 4) of left, top, width, height as left, top, right, bottom."""
    with np.errstate(invalid="ignore", over="ignore"):
        return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1)


def _parse(data: bytes, path: str):
    try:
        return json.loads(data)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}: is no valid JSON at line {error.lineno}, column {error.colno} (character {error.pos} of "
            f"{len(error.doc)}: {error.msg}). The file is truncated or damaged; copy or write it again"
        ) from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is no JSON but binary data ({error}); ann_file must name a JSON file") from error


def _check_entries(entries: Sequence, name: str, keys: Mapping[str, type | tuple[type, ...]], path: str) -> None:
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise ValueError(f"{path}: {name}[{index}] must be an object with {sorted(keys)}, but is {_short(entry)}")
        for key, kind in keys.items():
            if key not in entry:
                raise ValueError(
                    f"{path}: is no COCO annotation file: {name}[{index}] has no {key!r}; it has {sorted(entry)}"
                )
            if not isinstance(entry[key], kind):
                wanted = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
                raise ValueError(f"{path}: {name}[{index}][{key!r}] must be {wanted}, but is {_short(entry[key])}")


def _check_sizes(images: Sequence[dict], path: str) -> None:
    for index, image in enumerate(images):
        if not (image["height"] > 0 and image["width"] > 0):
            raise ValueError(
                f"{path}: images[{index}] ({image['file_name']!r}) must have a positive width and height in pixels, "
                f"but has {image['width']} x {image['height']}"
            )


def _check_numbers(annotations: Sequence[dict], path: str) -> None:
    for index, annotation in enumerate(annotations):
        box = annotation["bbox"]
        if len(box) != 4 or not all(isinstance(number, Real) for number in box):
            raise ValueError(
                f"{path}: annotations[{index}]['bbox'] must be the 4 numbers x, y, width, height, but is {_short(box)}"
            )
        if not isinstance(annotation.get("area", 0), Real):
            raise ValueError(
                f"{path}: annotations[{index}]['area'] must be a number, but is {_short(annotation['area'])}"
            )


def _short(value) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) < 60 else text[:57] + '...'}"
