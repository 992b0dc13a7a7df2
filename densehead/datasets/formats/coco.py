"""Recognising COCO: a JSON file a split, and the images somewhere near."""

from __future__ import annotations

import os
from collections.abc import Sequence

from densehead.datasets.coco_file import annotation_columns, read_coco, without_gc
from densehead.datasets.folders import files_in, folders_in, inner_path
from densehead.datasets.formats.found import (
    FoundDataset,
    FoundSplit,
    NotThisFormat,
    in_order,
    keys_of_split,
    middle_size,
    split_of,
)
from densehead.datasets.validate import listed

_DEPTH = 2  # folders in which JSON files are looked for
_WORDS = ("images", "annotations", "categories", "bbox")
_SAMPLE = 5  # images of a file that are looked for


@without_gc()
def find_coco(root: str) -> FoundDataset:
    """Look for COCO annotation files and their images in a folder.

    Raises:
        NotThisFormat: there are none.
        ValueError: a file is meant as one, but is broken.
    """
    json_files = files_in(root, [".json"], _DEPTH)
    files = [file for file in json_files if _is_coco(file)]
    if not files:
        seen = listed((inner_path(file, root) for file in json_files), 5)
        raise NotThisFormat(f"COCO: a JSON file with {listed(_WORDS)}; JSON files here: {seen}")
    notes: list[str] = []
    file_of = _file_of_splits(files, root, notes)
    content_of = {split: read_coco(file) for split, file in file_of.items()}
    used_ids = [
        annotation_columns(content_of[split]["annotations"], file)["category_id"] for split, file in file_of.items()
    ]
    classes = _classes(list(content_of.values()), used_ids, notes)
    splits = {}
    for split, file in file_of.items():
        images = content_of[split]["images"]
        dataset = {
            "type": "CocoDataset",
            "data_root": root,
            "ann_file": inner_path(file, root),
            "data_prefix": {"img": _image_folder(images, file, root, notes)},
            "metainfo": {"classes": classes},
            **keys_of_split(split),
        }
        splits[split] = FoundSplit(len(images), dataset)
    sizes = ((image["width"], image["height"]) for content in content_of.values() for image in content["images"])
    return FoundDataset(root, "coco", _layout(file_of.values(), root), classes, splits, middle_size(sizes), notes)


def _is_coco(file: str) -> bool:
    """Tell whether a file has the words of COCO in it, without reading it as JSON."""
    with open(file, "rb") as opened:
        data = opened.read()
    return all(f'"{word}"'.encode() in data for word in _WORDS)


def _file_of_splits(files: Sequence[str], root: str, notes: list[str]) -> dict[str, str]:
    """Return the file of each split; of several, COCO's ``instances`` or else the first."""
    found: dict[str | None, list[str]] = {}
    for file in sorted(files, key=lambda file: not os.path.basename(file).startswith("instances")):
        inner = inner_path(file, root)
        found.setdefault(split_of(os.path.basename(inner)) or split_of(os.path.dirname(inner)), []).append(file)
    if list(found) == [None]:
        found = {"train": found[None]}
        notes.append("No file is named after a split (train, val, test): all images are taken to train on.")
    chosen = {split: of_split[0] for split, of_split in in_order(found).items()}
    if rest := [inner_path(file, root) for file in files if file not in chosen.values()]:
        notes.append(f"Left out are the files {listed(rest)}: there is another of the split, or they are of none.")
    return chosen


def _classes(contents: Sequence[dict], used_ids: Sequence[Sequence], notes: list[str]) -> tuple[str, ...]:
    """Return the names in all files, without the one that Roboflow puts above the others.

    Args:
        contents: of the files.
        used_ids: of each, the ``category_id`` of its annotations.
        notes: gets what is worth knowing.
    """
    used, above = set(), set()
    names: dict[str, None] = {}
    for content, ids in zip(contents, used_ids, strict=True):
        name_of = {category["id"]: category["name"] for category in content["categories"]}
        used |= {name_of.get(one) for one in set(ids)}
        above |= {str(category.get("supercategory")) for category in content["categories"]}
        names.update(dict.fromkeys(name_of.values()))
    headings = [name for name in names if name in above and name not in used]
    if not headings or len(headings) == len(names):
        return tuple(names)
    notes.append(f"The category {listed(headings)} is left out: it has no object and is what others belong to.")
    return tuple(name for name in names if name not in headings)


def _image_folder(images: Sequence[dict], file: str, root: str, notes: list[str]) -> str:
    """Return the folder, from ``root`` on, in which the first images of a file are; empty where none has them."""
    names = [image["file_name"] for image in images[:_SAMPLE]]
    stem, own = os.path.splitext(os.path.basename(file))[0].lower(), os.path.dirname(file)

    def unlikely(folder: str) -> tuple:
        name = os.path.basename(folder).lower()
        return (name not in stem, split_of(name) != split_of(inner_path(file, root)), not folder.startswith(own))

    for folder in sorted(folders_in(root, _DEPTH), key=unlikely):
        paths = [os.path.normpath(os.path.join(folder, name)) for name in names]
        if names and all(path.startswith(folder + os.sep) and os.path.isfile(path) for path in paths):
            return inner_path(folder, root)
    notes.append(f"The images of {inner_path(file, root)} were not found: no folder here has {listed(names[:1])}.")
    return ""


def _layout(files: Sequence[str], root: str) -> str:
    if all(os.path.basename(file) == "_annotations.coco.json" for file in files):
        return "COCO, as Roboflow lays it out"
    return f"COCO: {', '.join(inner_path(file, root) for file in files)}"
