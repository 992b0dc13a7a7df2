"""The classes of a YOLO data set, and what its YAML file says."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from densehead.datasets import validate

#: Names under which a YAML file has images; the first is ours, the others are taken for it.
SPLITS = {"train": ("train",), "val": ("val", "valid", "validation"), "test": ("test",)}
#: Files that hold the names of the classes, one a line.
CLASS_FILES = ("classes.txt", "obj.names", "_darknet.labels")
YAML = (".yaml", ".yml")


@dataclass(frozen=True)
class DataYaml:
    """What a YAML file says of a data set.

    Attributes:
        path: the file.
        root: its ``path``, the folder that the others count from, as written; empty where it has none.
        names: of the classes, in the order of their numbers.
        splits: for ``train``, ``val`` and ``test``, as far as it has them, folders and lists as written.
    """

    path: str
    root: str
    names: tuple[str, ...]
    splits: dict[str, tuple[str, ...]]


def read_data_yaml(path: str) -> DataYaml:
    """Read a YAML file in the manner of YOLO: ``names`` (a list, or a dict by number) or ``nc``, ``path``, ``train``,
    ``val``, ``test``.

    Every value is read as the text that it is, so that classes may be called ``yes``, ``0`` or ``1e3``; nothing of the
    file is run.

    Raises:
        ValueError: it is no YAML, no mapping, or a key is not as it must be; the message names file and key.
    """
    content = _load_yaml(path)
    if "kpt_shape" in content:
        raise ValueError(f"{path}: has 'kpt_shape', so its labels hold key points, which no detector here reads")
    splits = {}
    for split, keys in SPLITS.items():
        key = next((one for one in keys if content.get(one)), None)
        if key is not None:
            splits[split] = _texts(content[key], key, path)
    root = content.get("path", "")
    if not isinstance(root, str):
        raise ValueError(f"{path}: 'path' must be a folder, but is {root!r}")
    return DataYaml(path, root, _names(content, path), splits)


def _load_yaml(path: str) -> dict:
    try:
        content = yaml.load(Path(path).read_bytes(), Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise ValueError(f"{path}: is no valid YAML: {' '.join(str(error).split())}") from None
    except RecursionError:
        raise ValueError(f"{path}: is no YAML file of a data set: lists in lists, too many to read") from None
    if not isinstance(content, dict):
        raise ValueError(
            f"{path}: must have keys (names, train, val, ...), but is {'empty' if not content else 'none of that'}"
        )
    return content


def _texts(value: object, key: str, path: str) -> tuple[str, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(one, str) and one for one in texts):
        raise ValueError(
            f"{path}: {key!r} must be a folder, a .txt list of images or a list of these, but is {value!r}"
        )
    return tuple(texts)


def _names(content: dict, path: str) -> tuple[str, ...]:
    names, count = content.get("names"), content.get("nc")
    if count is not None and not _is_number_of_classes(count):
        raise ValueError(f"{path}: 'nc' must be the number of classes, but is {repr(count)[:60]}")
    if not names:
        if count is None:
            raise ValueError(
                f"{path}: has neither 'names', the classes, nor 'nc', their number; it has {sorted(content)}"
            )
        return tuple(f"class{index}" for index in range(int(count)))
    if isinstance(names, dict):
        expected = [str(index) for index in range(len(names))]
        if sorted(names) != sorted(expected):
            raise ValueError(
                f"{path}: the keys of 'names' must be the numbers 0 to {len(names) - 1}, but are "
                f"{validate.listed(names, 10)}"
            )
        names = [names[key] for key in expected]
    if isinstance(names, str) or not all(isinstance(one, str) and one for one in names):
        raise ValueError(f"{path}: 'names' must be a list of names, or a dict of them by number, but is {names!r}")
    if count is not None and int(count) != len(names):
        raise ValueError(f"{path}: 'nc' is {count}, but there are {len(names)} 'names': {validate.listed(names)}")
    return validate.check_classes(names, path, key="names")


def _is_number_of_classes(value: object) -> bool:
    """Whether a text says 1 to a million: more would be a slip that fills the memory with names."""
    return isinstance(value, str) and value.isdecimal() and len(value) < 8 and 1 <= int(value) <= 10**6


def read_class_file(path: str) -> tuple[str, ...]:
    """Read the names of the classes, one a line.

    Raises:
        ValueError: there is none, or one twice.
    """
    lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    return validate.check_classes([line.strip() for line in lines if line.strip()], path, key="the list of names")


def find_class_file(folders: Sequence[str]) -> str | None:
    """Return the first file in one of the folders that names the classes: a YAML file, or one of ``CLASS_FILES``."""
    for folder in folders:
        for name in ("data.yaml", "data.yml", "dataset.yaml", *CLASS_FILES):
            path = os.path.join(folder, name)
            if os.path.isfile(path):
                return path
    return None


def read_class_names(path: str) -> tuple[str, ...]:
    """Return the names of the classes in a YAML file or in a list."""
    return read_data_yaml(path).names if path.endswith(YAML) else read_class_file(path)


def yolo_class_names(
    data_root: str, ann_file: str = "data.yaml", default: Sequence[str] = ("first", "second")
) -> tuple[str, ...]:
    """Return the names of the classes of a YOLO data set, for a config that counts them.

    Args:
        data_root: its folder.
        ann_file: the YAML file in it; where there is none, the class file of :func:`find_class_file`.
        default: what to return where ``data_root`` does not exist, so that the config can be read without the data.

    Raises:
        ValueError: the folder names no classes.
    """
    if not os.path.isdir(data_root):
        return tuple(default)
    path = os.path.join(data_root, ann_file)
    if not (path.endswith(YAML) and os.path.isfile(path)):
        path = find_class_file([data_root, os.path.join(data_root, "labels")])
    if path is None:
        raise ValueError(
            f"{data_root}: names no classes: there is neither {ann_file!r} nor any of {validate.listed(CLASS_FILES)}. "
            "Name them in the order of their numbers: classes=('first', 'second')"
        )
    return read_class_names(path)
