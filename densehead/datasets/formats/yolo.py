"""Recognising YOLO: a text file an image."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from densehead.datasets.data_yaml import YAML, read_class_names, read_data_yaml
from densehead.datasets.folders import files_in
from densehead.datasets.formats.found import (
    FoundDataset,
    FoundSplit,
    NotThisFormat,
    in_order,
    keys_of_split,
    middle_size,
    split_of,
)
from densehead.datasets.image_size import SUFFIXES, image_size
from densehead.datasets.yolo import YOLODataset
from densehead.datasets.yolo_labels import parse_labels, read_label_file

_SAMPLE = 100  # images of a split whose headers or labels are looked at


def find_yolo(root: str) -> FoundDataset:
    """Look for images and label files of YOLO in a folder: by its YAML file, by lists, or by the names of folders.

    Raises:
        NotThisFormat: there are none.
        ValueError: some label files are as they must be, but another one is not.
    """
    tried: list[str] = []
    for layout, configs in (_of_yaml(root, tried), _of_lists(root), *_of_folders(root)):
        found, failed = _look_at(configs)
        if any(one.labels for one in found.values()):
            notes = [f"{split} is left out: {error}." for split, error in failed.items()]
            return _told(root, layout, found, notes)
        tried += [str(error) for error in failed.values()]
    raise NotThisFormat(
        "YOLO: data.yaml, or folders images and labels, or text files beside images, whose lines are a class and four "
        f"numbers{''.join(f'; {one}' for one in tried)}"
    )


@dataclass(frozen=True)
class _Split:
    """Images of a split, and the label files of a sample of them."""

    config: dict
    images: list[str]
    labels: list[str]


def _look_at(configs: Mapping[str, dict]) -> tuple[dict[str, _Split], dict[str, Exception]]:
    """List the images of each split, and read some label files; return what was found, and why a split was not."""
    found, failed = {}, {}
    for split, config in configs.items():
        try:
            dataset = YOLODataset(**config, lazy_init=True)
            images = [one.path for one in dataset.list_images()]
        except (ValueError, TypeError, FileNotFoundError) as error:
            failed[split] = error
            continue
        labels = [path for path in map(dataset.label_path, _sample(images)) if path is not None]
        errors = [error for error in map(_error_of, labels) if error is not None]
        if errors and len(errors) < len(labels):
            raise errors[0]
        if errors:
            failed[split] = errors[0]
        else:
            found[split] = _Split(config, images, labels)
    return found, failed


def _error_of(path: str) -> ValueError | None:
    try:
        parse_labels(read_label_file(path), path)
    except ValueError as error:
        return error
    return None


def _told(root: str, layout: str, found: Mapping[str, _Split], notes: list[str]) -> FoundDataset:
    classes = _classes(root, list(found.values()), notes)
    splits = {}
    for split, one in in_order(found).items():
        dataset = {"type": "YOLODataset", **one.config, "metainfo": {"classes": classes}, **keys_of_split(split)}
        splits[split] = FoundSplit(len(one.images), dataset)
    sizes = [image_size(path)[::-1] for one in found.values() for path in _sample(one.images)]
    return FoundDataset(root, "yolo", layout, classes, splits, middle_size(sizes), notes)


def _of_yaml(root: str, tried: list[str]) -> tuple[str, dict[str, dict]]:
    """Return the config of each split of the first YAML file that names images."""
    files = files_in(root, YAML, 0)
    for file in sorted(files, key=lambda file: not os.path.basename(file).startswith(("data.", "dataset."))):
        try:
            content = read_data_yaml(file)
        except (ValueError, TypeError) as error:
            tried.append(str(error))
            continue
        if content.splits:
            name = os.path.basename(file)
            is_roboflow = any(entry.startswith("../") for entries in content.splits.values() for entry in entries)
            configs = {split: {"data_root": root, "ann_file": name, "split": split} for split in content.splits}
            return f"YOLO, {name}{' of Roboflow' if is_roboflow else ''}", configs
    return "", {}


def _of_lists(root: str) -> tuple[str, dict[str, dict]]:
    """Return the config of each split that a list of images at the top is named after."""
    configs = {}
    for file in files_in(root, [".txt"], 0):
        split = split_of(os.path.splitext(os.path.basename(file))[0])
        with open(file, encoding="utf-8", errors="replace") as opened:
            first = opened.readline().strip()
        if split is not None and first.lower().endswith(SUFFIXES):
            configs[split] = {"data_root": root, "ann_file": os.path.basename(file)}
    return "YOLO, lists of images", configs


def _of_folders(root: str) -> Iterator[tuple[str, dict[str, dict]]]:
    """Yield layouts and the config of each split in them, where folders are named after splits; at last without."""
    for layout, pattern in (
        ("YOLO, images/<split> and labels/<split>", "images/{}"),
        ("YOLO, <split>/images and <split>/labels", "{}/images"),
        ("YOLO, text files beside the images", "{}"),
    ):
        above = os.path.join(root, pattern.partition("{}")[0])
        names = sorted(os.listdir(above)) if os.path.isdir(above) else []
        folders = {split_of(name): pattern.format(name) for name in names}
        folders = {split: one for split, one in folders.items() if split and os.path.isdir(os.path.join(root, one))}
        yield layout, {split: _config(root, folder) for split, folder in folders.items()}
    for folder, depth in (("images", None), ("", 0)):
        if files_in(os.path.join(root, folder), SUFFIXES, depth):
            yield "YOLO, a single folder of images", {"train": _config(root, folder)}


def _config(root: str, folder: str) -> dict:
    return {"data_root": root, "ann_file": "", "data_prefix": {"img": folder}}


def _classes(root: str, found: Sequence[_Split], notes: list[str]) -> tuple[str, ...]:
    """Return the names that a file gives, or names made of the numbers in all label files."""
    for one in found:
        file = YOLODataset(**one.config, lazy_init=True).class_file
        if file is not None:
            return read_class_names(file)
    numbers = set()
    for one in found:
        dataset = YOLODataset(**one.config, lazy_init=True)
        for path in filter(None, map(dataset.label_path, one.images)):
            numbers |= {row.label for row in parse_labels(read_label_file(path), path)}
    names = tuple(f"class{index}" for index in range(max(numbers, default=0) + 1))
    notes.append(
        f"No file names the classes; the highest number in the label files is {len(names) - 1}. Write "
        f"{root}/classes.txt, a name a line."
    )
    return names


def _sample(paths: Sequence[str]) -> Sequence[str]:
    """Return some of many paths, evenly spread."""
    return paths[:: -(-len(paths) // _SAMPLE)] if paths else paths
