"""What was found in a folder."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

_SPLIT = re.compile(r"(?<![a-z])(trainval|train|val|valid|test|minival|dev)(?:ing|idation|ation)?(?![a-z])")
_ALIASES = {"valid": "val", "minival": "val", "dev": "val"}


class NotThisFormat(Exception):
    """A folder does not hold a data set of the format; the message says what was looked for and found."""


@dataclass(frozen=True)
class FoundSplit:
    """A part of a data set.

    Attributes:
        images: how many it has.
        dataset: the config of the data set that reads it, but for its pipeline.
    """

    images: int
    dataset: dict


@dataclass(frozen=True)
class FoundDataset:
    """A data set that was recognised.

    Attributes:
        root: its folder, as it was given.
        format: ``'coco'``, ``'voc'`` or ``'yolo'``.
        layout: how it lies there, in words.
        classes: the names, in the order of their labels.
        splits: of each part (``'train'``, ``'val'``, ``'test'``, or as the data set calls it) what it holds.
        image_size: width and height that half of the images are below, pixels; None where it is not known.
        notes: what is worth knowing, sentences.
    """

    root: str
    format: str
    layout: str
    classes: tuple[str, ...]
    splits: Mapping[str, FoundSplit]
    image_size: tuple[int, int] | None = None
    notes: Sequence[str] = ()

    @property
    def train(self) -> dict | None:
        """Config of the data set to train on, or None."""
        return self._dataset("train", "trainval")

    @property
    def val(self) -> dict | None:
        """Config of the data set to validate on, or None."""
        return self._dataset("val")

    @property
    def test(self) -> dict | None:
        """Config of the data set to test on, or None."""
        return self._dataset("test")

    def _dataset(self, *names: str) -> dict | None:
        return next((self.splits[name].dataset for name in names if name in self.splits), None)


def split_of(name: str) -> str | None:
    """Return the part that a file or folder name stands for (``'instances_train2017'``: ``'train'``), or None."""
    found = _SPLIT.search(name.lower())
    return _ALIASES.get(found[1], found[1]) if found else None


def in_order(found: Mapping[str, Any]) -> dict[str, Any]:
    """Sort by split; ``trainval`` counts only where there is no ``train``."""
    order = [one for one in ("train", "trainval", "val", "test") if one in found]
    return {one: found[one] for one in order if one != "trainval" or "train" not in found}


def keys_of_split(split: str) -> dict:
    """Return the keys of a data set that depend on what it is for."""
    return {"test_mode": True} if split in ("val", "test") else {"filter_cfg": {"filter_empty_gt": True}}


def middle_size(sizes: Iterable[tuple[int, int]]) -> tuple[int, int] | None:
    """Return the medians of widths and of heights, or None of none."""
    sizes = np.array(list(sizes)).reshape(-1, 2)
    return tuple(int(one) for one in np.median(sizes, axis=0)) if len(sizes) else None
