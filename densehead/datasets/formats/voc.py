"""Recognising Pascal VOC: an XML file an image."""

from __future__ import annotations

import os
from collections.abc import Iterator

from densehead.datasets.data_yaml import read_class_file
from densehead.datasets.folders import files_in, inner_path
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
from densehead.datasets.xml_style import XMLDataset

_ANNOTATIONS = ("Annotations", "annotations", "xml", "XML")
_IMAGES = ("JPEGImages", "images", "Images")
_LISTS = os.path.join("ImageSets", "Main")


def find_voc(root: str) -> FoundDataset:
    """Look for XML files of VOC in a folder, also in ``VOC2007`` and the like in it.

    Classes are in the order of ``classes.txt`` where there is one that has them all, else in that of the alphabet.

    Raises:
        NotThisFormat: there are none.
        ValueError: there are several years, or an XML file is broken.
    """
    notes: list[str] = []
    configs = _of_layout(root, notes) or _of_roboflow(root)
    if not configs:
        raise NotThisFormat(
            f"VOC: a folder {listed(_ANNOTATIONS[:1])} of XML files, or XML files in train, valid, test; there are "
            f"{len(files_in(root, ['.xml'], 2))} XML files up to two folders deep"
        )
    infos_of = {split: XMLDataset(**config, lazy_init=True).read_infos() for split, config in configs.items()}
    infos = {info["xml_path"]: info for of_split in infos_of.values() for info in of_split}.values()
    classes = _classes(root, {name for info in infos for name, _, _ in info["objects"]})
    if absent := [info["img_path"] for info in infos if not os.path.isfile(info["img_path"])]:
        notes.append(f"{len(absent)} of {len(infos)} images are not there, the first {absent[0]!r}.")
    splits = {}
    for split, config in configs.items():
        dataset = {"type": "VOCDataset", **config, "metainfo": {"classes": classes}, **keys_of_split(split)}
        splits[split] = FoundSplit(len(infos_of[split]), dataset)
    sizes = ((info["width"], info["height"]) for info in infos)
    is_roboflow = any("img_subdir" in config and not config["img_subdir"] for config in configs.values())
    layout = "Pascal VOC, as Roboflow lays it out" if is_roboflow else "Pascal VOC"
    return FoundDataset(root, "voc", layout, classes, splits, middle_size(sizes), notes)


def _of_layout(root: str, notes: list[str]) -> dict[str, dict]:
    """Return the config of each split of VOC's own layout; of none if it is another."""
    homes = [home for home in _homes(root) if _folder(home, _ANNOTATIONS, [".xml"])]
    if not homes:
        return {}
    if len(homes) > 1:
        names = listed(inner_path(one, root) or one for one in homes)
        raise ValueError(f"{root}: holds several data sets of VOC, {names}. Name one; a ConcatDataset joins several")
    home = homes[0]
    usual = {"data_root": root, "data_prefix": {"sub_data_root": inner_path(home, root)}}
    subdirs = {"ann_subdir": _folder(home, _ANNOTATIONS, [".xml"]), "img_subdir": _folder(home, _IMAGES, [""])}
    for key, default in (("ann_subdir", "Annotations"), ("img_subdir", "JPEGImages")):
        if subdirs[key] not in (default, None):
            usual[key] = subdirs[key]
    if subdirs["img_subdir"] is None:
        usual["img_subdir"] = subdirs["ann_subdir"]
    lists = _lists(home)
    if not lists:
        notes.append(f"There is no list in {_LISTS} (train.txt, val.txt): all images are taken to train on.")
        return {"train": {**usual, "ann_file": ""}}
    return {split: {**usual, "ann_file": inner_path(path, root)} for split, path in lists.items()}


def _of_roboflow(root: str) -> dict[str, dict]:
    """Return the config of each split where images and XML files lie together in a folder a split."""
    configs = {}
    for name in sorted(os.listdir(root)):
        split = split_of(name)
        if split is not None and files_in(os.path.join(root, name), [".xml"], 0):
            prefix = {"sub_data_root": name}
            configs[split] = {
                "data_root": root,
                "data_prefix": prefix,
                "img_subdir": "",
                "ann_subdir": "",
                "ann_file": "",
            }
    return in_order(configs)


def _homes(root: str) -> Iterator[str]:
    """Yield the folders that may hold ``Annotations``."""
    yield root
    for above in (root, os.path.join(root, "VOCdevkit")):
        if os.path.isdir(above):
            yield from (os.path.join(above, name) for name in sorted(os.listdir(above)) if name.startswith("VOC2"))


def _folder(home: str, names: tuple[str, ...], endings: list[str]) -> str | None:
    """Return the first name of a folder that has files of these endings in it, or None."""
    return next((name for name in names if files_in(os.path.join(home, name), endings)), None)


def _lists(home: str) -> dict[str, str]:
    """Return the list of each split; those of single classes (``cat_train.txt``) are none."""
    found = {}
    for path in files_in(os.path.join(home, _LISTS), [".txt"], 0):
        stem = os.path.splitext(os.path.basename(path))[0]
        split = split_of(stem)
        if stem.lower() in (split, "valid", "validation", "training", "testing") and os.path.getsize(path):
            found[split] = path
    return in_order(found)


def _classes(root: str, names: set[str]) -> tuple[str, ...]:
    path = os.path.join(root, "classes.txt")
    if os.path.isfile(path):
        written = read_class_file(path)
        if names <= set(written):
            return written
    return tuple(sorted(names))
