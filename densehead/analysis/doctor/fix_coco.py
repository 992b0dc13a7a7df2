"""Writing a cleaned COCO file."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from numbers import Integral
from pathlib import Path

import numpy as np

from densehead.analysis.doctor.parts import Part
from densehead.analysis.doctor.repairs import Repairs
from densehead.datasets.coco_file import CATEGORY_KEYS, entry_faults, has_size, open_coco, without_gc
from densehead.datasets.validate import repeated


@without_gc()
def write_coco(part: Part, repairs: Repairs, folder: Path) -> Path:
    """Write a cleaned copy of a COCO file into a folder; return its path. What else the file holds stays in it.

    Args:
        part: the data set of the file.
        repairs: what is done; gets notes of what could not be used.
        folder: where the copy goes, under the same name.
    """
    found, dataset = part.annotations, part.dataset
    content = open_coco(dataset.ann_file, dataset.backend_args, need_annotations=not dataset.test_mode)
    content["images"] = _images(content["images"], part, repairs)
    content["categories"], new_id = _categories(content["categories"], repairs, found.file)
    content["annotations"] = [
        {**one, "category_id": new_id[one["category_id"]]} if one["category_id"] in new_id else one
        for one in _annotations(content["annotations"], part, repairs)
    ]
    _drop_strays(content, repairs, found.file)
    path = folder / Path(found.file).name
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def _images(entries: Sequence[dict], part: Part, repairs: Repairs) -> list[dict]:
    found, kept = part.annotations, []
    for index in _others(entries, found.image_entries):
        repairs.note("entries of images left out that cannot be used", found.file, f"images[{index}]")
    again = {position for _, _, position in repeated(found.image_ids)}
    for index, entry in enumerate(found.image_entries):
        image = entries[entry]
        if index in again:
            repairs.note("entries of images left out that have the id of another", found.file, f"images[{entry}]")
        elif repairs.keep_image[index]:
            kept.append(_with_size(image, found.sizes[index], repairs, found.file))
    return kept


def _with_size(image: dict, size: np.ndarray, repairs: Repairs, file: str) -> dict:
    """Return an image with the size of its file where it has none."""
    if has_size(image) or np.isnan(size).any():
        return image
    width, height = (int(side) for side in size)
    repairs.note("sizes of images taken from their files", file, f"image {image['id']}", f"{width} x {height}")
    return {**image, "width": width, "height": height}


def _categories(entries: Sequence, repairs: Repairs, file: str) -> tuple[list[dict], dict]:
    """Return the categories that can be used, each id and name once, and the new ids of those that are left out."""
    kept, new_id, by_name, ids = [], {}, {}, set()
    bad = dict(entry_faults(entries, "categories", CATEGORY_KEYS))
    for index, one in enumerate(entries):
        item = f"categories[{index}]"
        if index in bad:
            repairs.note("categories left out that cannot be used", file, item)
        elif one["id"] in ids:
            repairs.note("categories left out that have the id of another", file, item)
        elif one["name"] in by_name:
            ids.add(one["id"])
            new_id[one["id"]] = by_name[one["name"]]
            told = f"{one['id']} -> {new_id[one['id']]}"
            repairs.note("categories joined with another of their name", file, item, told)
        else:
            ids.add(one["id"])
            by_name[one["name"]] = one["id"]
            kept.append(one)
    return kept, new_id


def _annotations(entries: Sequence[dict], part: Part, repairs: Repairs) -> list[dict]:
    found = part.annotations
    for index in _others(entries, found.box_entries):
        item = f"annotations[{index}]"
        repairs.note("annotations left out that cannot be used, or of no image or category", found.file, item)
    kept = []
    for box in np.flatnonzero(repairs.keep_box).tolist():
        annotation = entries[found.box_entries[box]]
        kept.append(_clipped(annotation, repairs.clipped[box]) if box in repairs.clipped else annotation)
    return _renumbered(kept, repairs, found.file)


def _clipped(annotation: dict, corners: np.ndarray) -> dict:
    left, top, right, bottom = (float(side) for side in corners)
    _, _, width, height = annotation["bbox"]
    new = {**annotation, "bbox": [left, top, right - left, bottom - top]}
    if abs(annotation.get("area", 0) - width * height) <= 1e-3 * abs(width * height):  # else it is that of a mask
        new["area"] = (right - left) * (bottom - top)
    return new


def _renumbered(annotations: list[dict], repairs: Repairs, file: str) -> list[dict]:
    """Give annotations whose id another has one of their own."""
    places = [index for index, one in enumerate(annotations) if "id" in one]
    again = [places[position] for _, _, position in repeated([annotations[index]["id"] for index in places])]
    used = [one["id"] for one in annotations if isinstance(one.get("id"), Integral)]
    for new, index in enumerate(again, max(used, default=0) + 1):
        old = annotations[index]["id"]
        repairs.note("annotations numbered anew whose id another has", file, f"annotation {old}", f"{old} -> {new}")
        annotations[index] = {**annotations[index], "id": new}
    return annotations


def _drop_strays(content: dict, repairs: Repairs, file: str) -> None:
    """Leave out annotations of images that were left out for their id."""
    known = {image["id"] for image in content["images"]}
    strays = [one for one in content["annotations"] if one["image_id"] not in known]
    if strays:
        content["annotations"] = [one for one in content["annotations"] if one["image_id"] in known]
        for one in strays:
            repairs.note("annotations left out with their image", file, f"annotation {one.get('id')}")


def _others(entries: Sequence, indices: Iterable[int]) -> list[int]:
    used = set(np.asarray(indices).tolist())
    return [index for index in range(len(entries)) if index not in used]
