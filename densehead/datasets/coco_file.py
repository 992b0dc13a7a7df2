"""Reading a COCO annotation file, with every assumption about it checked."""

from __future__ import annotations

import contextlib
import gc
import json
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from numbers import Real

import numpy as np
from mmengine.fileio import get

from densehead.datasets.validate import listed, require_unique, warn

IMAGE_KEYS = {"id": (int, str), "file_name": str, "height": Real, "width": Real}
CATEGORY_KEYS = {"id": (int, str), "name": str}
MAX_SIDE = 2**31  # pixels; no image is that large, and no number that fits into an array larger
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
    content = open_coco(path, backend_args, need_annotations=need_annotations)
    _refuse(entry_faults(content["images"], "images", IMAGE_KEYS), path)
    _refuse(entry_faults(content["categories"], "categories", CATEGORY_KEYS), path)
    _refuse(size_faults(content["images"]), path)
    require_unique([image["id"] for image in content["images"]], "image id", path)
    require_unique([category["id"] for category in content["categories"]], "category id", path)
    require_unique([category["name"] for category in content["categories"]], "category name", path)
    return content


def open_coco(path: str, backend_args: Mapping | None = None, *, need_annotations: bool = True) -> dict:
    """Read a COCO annotation file as far as its three lists, whose entries are not looked at.

    Args:
        path: the JSON file.
        backend_args: of mmengine's file backend.
        need_annotations: False allows a file without truth; its list is empty then.

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
    return content


def annotation_columns(annotations: Sequence[dict], path: str) -> dict[str, np.ndarray | list]:
    """Return the fields of the annotations as columns.

    These are ``bbox`` (n, 4) xywh, ``area`` (n,), ``iscrowd`` and ``ignore`` (n,) bool, and the lists ``image_id`` and
    ``category_id``.

    Raises:
        ValueError: an annotation that lacks a field or has one of another type; the message names it.
    """
    try:
        columns = to_columns(annotations)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        _refuse(entry_faults(annotations, "annotations", ANNOTATION_KEYS), path)
        _refuse(number_faults(annotations), path)
        raise ValueError(f"{path}: an annotation cannot be read: {error}") from error
    ids = [one["id"] for one in annotations if "id" in one]
    for key, values in (("id", ids), ("image_id", columns["image_id"]), ("category_id", columns["category_id"])):
        _require_ids(values, key, path)
    require_unique(ids, "annotation id", path)
    return columns


def to_columns(annotations: Sequence[dict]) -> dict[str, np.ndarray | list]:
    """Return what :func:`annotation_columns` does, of annotations that are known to be good.

    Raises:
        KeyError, TypeError, ValueError, AttributeError, OverflowError: they are not.
    """
    columns = {
        "image_id": [one["image_id"] for one in annotations],
        "category_id": [one["category_id"] for one in annotations],
        "bbox": np.array([one["bbox"] for one in annotations], dtype=np.float64).reshape(len(annotations), 4),
        "iscrowd": np.array([bool(one.get("iscrowd")) for one in annotations], dtype=bool),
        "ignore": np.array([bool(one.get("ignore")) for one in annotations], dtype=bool),
    }
    area = np.array([one.get("area", np.nan) for one in annotations], dtype=np.float64)
    with np.errstate(over="ignore", invalid="ignore"):
        columns["area"] = np.where(np.isnan(area), columns["bbox"][:, 2] * columns["bbox"][:, 3], area)
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
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, a list in a list in a list ...
        raise ValueError(f"{path}: is no annotation file: {error}") from None


def entry_faults(
    entries: Sequence, name: str, keys: Mapping[str, type | tuple[type, ...]]
) -> Iterator[tuple[int, str]]:
    """Yield (index, what is wrong) of the entries of the list ``name`` that lack a key or have one of another type."""
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            yield index, f"{name}[{index}] must be an object with {sorted(keys)}, but is {_short(entry)}"
            continue
        for key, kind in keys.items():
            if key not in entry:
                yield index, f"is no COCO annotation file: {name}[{index}] has no {key!r}; it has {sorted(entry)}"
                break
            if not isinstance(entry[key], kind):
                wanted = " or ".join(one.__name__ for one in (kind if isinstance(kind, tuple) else (kind,)))
                yield index, f"{name}[{index}][{key!r}] must be {wanted}, but is {_short(entry[key])}"
                break


def size_faults(images: Sequence[dict], skip: Collection[int] = ()) -> Iterator[tuple[int, str]]:
    """Yield (index, what is wrong) of the images without a positive width and height, but for those to ``skip``."""
    for index, image in enumerate(images):
        if index not in skip and not has_size(image):
            yield (
                index,
                f"images[{index}] ({image['file_name']!r}) must have a positive width and height in pixels, but has "
                f"{_number(image['width'])} x {_number(image['height'])}",
            )


def has_size(image: Mapping) -> bool:
    """Whether ``width`` and ``height`` of an entry of ``images`` can be those of an image."""
    return 0 < image["height"] < MAX_SIDE and 0 < image["width"] < MAX_SIDE


def _require_ids(values: Sequence, key: str, path: str) -> None:
    if {list, dict} & set(map(type, values)):  # nothing else of JSON cannot be looked up
        wrong = next(one for one in values if isinstance(one, list | dict))
        raise ValueError(f"{path}: the {key!r} of an annotation must be a number or a text, but is {_short(wrong)}")


def _number(value: Real) -> str:
    return f"{value}" if abs(value) < 1e18 else f"{'-' if value < 0 else ''}more than 1e18"


def number_faults(annotations: Sequence[dict], skip: Collection[int] = ()) -> Iterator[tuple[int, str]]:
    """Yield (index, what is wrong) of the annotations whose box or area are no numbers, but for those to ``skip``."""
    for index, annotation in enumerate(annotations):
        if index in skip:
            continue
        box = annotation["bbox"]
        if len(box) != 4 or not all(map(_is_number, box)):
            yield (
                index,
                f"annotations[{index}]['bbox'] must be the 4 numbers x, y, width, height, but is {_short(box)}",
            )
        elif not _is_number(annotation.get("area", 0)):
            yield index, f"annotations[{index}]['area'] must be a number, but is {_short(annotation['area'])}"


def _is_number(value: object) -> bool:
    """Whether a value fits into an array of numbers, which an integer of hundreds of digits does not."""
    return isinstance(value, float) or (isinstance(value, Real) and abs(value) < 2**1023)


def _refuse(faults: Iterator[tuple[int, str]], path: str) -> None:
    """Raise a ValueError of the first fault, if there is one."""
    for _, text in faults:
        raise ValueError(f"{path}: {text}")


def _short(value) -> str:
    text = repr(value)
    return f"{type(value).__name__} {text if len(text) < 60 else text[:57] + '...'}"
