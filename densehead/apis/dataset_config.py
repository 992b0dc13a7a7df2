"""From a data set that was recognised to a config that trains on it."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from densehead.apis.options import load_config
from densehead.apis.writing import SECTIONS, WIDTH, Code, as_text, config_text, datasets_of
from densehead.datasets.formats import FoundDataset
from densehead.files import whole_file

_OF_A_RUN = ("work_dir", "experiment_name", "launcher")  # of the base, whose folder is not to be written into
_LONG_SIDE = 320  # of the images in training, pixels; smaller images are left as they are


def describe(found: FoundDataset) -> list[str]:
    """Return in lines what was found, and what a config says to read it."""
    size = "unknown" if found.image_size is None else "{} x {} pixels in the middle".format(*found.image_size)
    lines = [f"{found.root}: {found.layout}", f"  classes   {len(found.classes)}: {', '.join(found.classes)}"]
    lines += [f"  {split:<8}  {part.images} images" for split, part in found.splits.items()]
    lines += [f"  size      {size}", *(f"  note      {note}" for note in found.notes), ""]
    for split in ("train", "val", "test"):
        dataset = getattr(found, split)
        if dataset is not None:
            lines.append(f"{split}_dataloader = dict(dataset={as_text(dataset, used=len(split) + 27)})")
    return [*lines, f"model = dict(bbox_head=dict(num_classes={len(found.classes)}))"]


def config_for(found: FoundDataset, base: str | os.PathLike, file: str | os.PathLike | None = None) -> str:
    """Return the text of a config: that of ``base``, whole, with the data sets and the classes that were found.

    Pipelines, wrappers and all else stay. The variables ``data_root``, ``classes`` and ``scale`` of a quick start are
    set too, ``scale`` to the ratio of the images. The metric is COCO's, from the truth of the data set. Without a
    validation set the test set is validated on, and without either nothing is.

    Args:
        found: the data set.
        base: a config file of a detector.
        file: where the text will be, for the command in its head.

    Raises:
        ValueError: there is nothing to train on, or ``base`` has no pipeline for it.
        FileNotFoundError: there is no ``base``.
    """
    if found.train is None:
        raise ValueError(f"{found.root}: has nothing to train on; its splits are {', '.join(found.splits)}")
    cfg = _read_base(found, base)
    val = found.val or found.test
    for split, dataset in (("train", found.train), ("val", val), ("test", found.test or val)):
        if dataset is None:
            for key in ("dataloader", "evaluator", "cfg"):
                cfg.pop(f"{split}_{key}", None)
        else:
            _set_dataset(cfg, split, dataset, base)
    _set_num_classes(cfg["model"])
    cfg = {key: cfg[key] for key in SECTIONS if key in cfg and key not in _OF_A_RUN}
    return config_text(cfg, _comments(found, base, file), {"classes": found.classes})


def write_config(found: FoundDataset, file: str | os.PathLike, base: str | os.PathLike) -> None:
    """Write :func:`config_for` to a file that does not exist yet.

    Raises:
        ValueError: it exists, or does not end with ``.py``; and as :func:`config_for`.
    """
    path = Path(file)
    if path.suffix != ".py":
        raise ValueError(f"the config to write must end with .py, but got {path}")
    if os.path.lexists(path):
        raise ValueError(f"{path} is there already, and nothing is written over: give another name")
    text = config_for(found, base, path)
    with whole_file(path) as opened:
        opened.write(text.encode())


def _read_base(found: FoundDataset, base: str | os.PathLike) -> dict:
    variables = {"data_root": found.root, "classes": found.classes}
    if found.image_size is not None:
        shrink = min(1.0, _LONG_SIDE / max(found.image_size))
        variables["scale"] = tuple(round(side * shrink) for side in found.image_size)
    known = load_config(base, {key: variables[key] for key in _assigned(base) if key in variables})
    return known.to_dict()


def _assigned(base: str | os.PathLike) -> list[str]:
    """Return the top-level names that the file itself assigns."""
    path = Path(base)
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    return [line.partition(" = ")[0] for line in text.splitlines() if line[:1].isidentifier() and " = " in line]


def _set_dataset(cfg: dict, split: str, dataset: Mapping, base: str | os.PathLike) -> None:
    """Put a data set in the place of that of a loader, inside the wrappers around it, with its pipeline."""
    loader = cfg.get(f"{split}_dataloader") or {}
    inner = [one for one in datasets_of(cfg, split) if "pipeline" in one]
    if not inner:
        raise ValueError(
            f"{base}: {split}_dataloader has no dataset with a pipeline, which the new data set would take over"
        )
    new = {**dataset, "metainfo": {"classes": Code("classes")}, "pipeline": inner[0]["pipeline"]}
    owner = loader
    while "dataset" in owner["dataset"]:
        owner = owner["dataset"]
    owner["dataset"] = new
    if split != "train":
        evaluator: dict[str, Any] = {"type": "CocoMetric", "metric": "bbox"}
        if dataset["type"] == "CocoDataset":
            evaluator["ann_file"] = os.path.join(dataset["data_root"], dataset["ann_file"])
        cfg[f"{split}_evaluator"] = evaluator


def _set_num_classes(node: Any) -> None:
    if isinstance(node, dict):
        for key in node:
            if key == "num_classes":
                node[key] = Code("len(classes)")
            else:
                _set_num_classes(node[key])
    elif isinstance(node, list | tuple):
        for one in node:
            _set_num_classes(one)


def _comments(found: FoundDataset, base: str | os.PathLike, file: str | os.PathLike | None) -> list[str]:
    parts = ", ".join(f"{split} {part.images}" for split, part in found.splits.items())
    lines = [f"{Path(base).stem} on {found.root}: {found.layout}, {len(found.classes)} classes; images: {parts}."]
    lines += found.notes
    if found.val is None:
        instead = "the test set stands for it" if found.test else "nothing is validated"
        lines.append(f"There is no validation set: {instead}.")
    if file is not None:
        lines.append(f"Train: python tools/train.py {file}")
    return [part for line in lines for part in textwrap.wrap(line, WIDTH - 2, subsequent_indent="  ")]
