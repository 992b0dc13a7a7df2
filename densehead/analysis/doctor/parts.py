"""The data sets of a config, out of the wrappers around them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from densehead.analysis.doctor.annotations import Annotations
from densehead.analysis.doctor.coco_reader import read_coco
from densehead.analysis.doctor.errors import config_finding
from densehead.analysis.doctor.findings import Example, Finding, Severity
from densehead.analysis.doctor.list_reader import read_list
from densehead.analysis.doctor.progress import Tracker
from densehead.analysis.doctor.xml_reader import read_xml
from densehead.analysis.doctor.yolo_reader import read_yolo
from densehead.datasets import CocoDataset, XMLDataset, YOLODataset
from densehead.datasets.validate import BoxCheck
from densehead.registry import DATASETS

_KINDS = {"coco": CocoDataset, "xml": XMLDataset, "yolo": YOLODataset}
_IN_MANY_FILES = {"xml": read_xml, "yolo": read_yolo}
#: What data sets raise for input that they do not put up with.
EXPECTED = (ValueError, TypeError, KeyError, OSError, AttributeError, ImportError)


@dataclass
class Part:
    """A data set of files: all of a split, or one of several that a wrapper joins.

    Attributes:
        split: ``train``, ``val`` or ``test``.
        key: where it stands in the config, as ``--cfg-options`` writes it.
        dataset: built, but not initialised; None where that is not possible.
        annotations: what its files say; None where they cannot be read.
        has_pipeline: whether its pipeline could be built; sizes after it are not known else.
        findings: why not, and what else was found while reading.
    """

    split: str
    key: str
    cfg: Mapping
    dataset: Any = None
    annotations: Annotations | None = None
    has_pipeline: bool = True
    findings: list[Finding] = field(default_factory=list)

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that it is asked for."""
        return tuple(self.dataset.metainfo.get("classes", ()))

    @property
    def kind(self) -> str:
        """The name of its class."""
        return type(self.dataset).__name__

    @property
    def pipeline(self) -> list:
        """Its transforms."""
        return list(getattr(self.dataset.pipeline, "transforms", ()))

    @cached_property
    def check(self) -> BoxCheck:
        """What training makes of the boxes; sizes of images that the file lacks must be filled in before."""
        return self.annotations.check()

    @cached_property
    def labels(self) -> np.ndarray:
        """(n,) the label of each box, -1 where it has none."""
        return self.annotations.labels(self.classes)

    @cached_property
    def is_used(self) -> np.ndarray:
        """(n,) bool, the boxes that training sees, as objects or as regions to ignore."""
        return self.check.keep & (self.labels >= 0) & ~self.annotations.is_left_out

    @cached_property
    def is_object(self) -> np.ndarray:
        """(n,) bool, the boxes that something is learned of."""
        return self.is_used & ~self.annotations.is_ignored

    @cached_property
    def kept_images(self) -> np.ndarray:
        """Indices of the images that filtering leaves, in their order."""
        found, keys = self.annotations, (getattr(self.dataset, "filter_cfg", None) or {})
        keep = np.ones(found.num_images, dtype=bool)
        if not getattr(self.dataset, "test_mode", False):
            if keys.get("filter_empty_gt", False):
                keep &= np.bincount(found.image_index[self.is_used], minlength=len(keep)) > 0
            with np.errstate(invalid="ignore"):
                keep &= ~(found.sizes.min(1, initial=np.inf) < keys.get("min_size", 0))
        kept, subset = np.flatnonzero(keep), getattr(self.dataset, "_indices", None)
        if subset is None:
            return kept
        if isinstance(subset, int):
            return kept[:subset] if subset >= 0 else kept[subset:]
        return kept[[one for one in subset if -len(kept) <= one < len(kept)]]


@dataclass(frozen=True)
class Round:
    """What an epoch shows: images of parts, as often as wrappers repeat them."""

    parts: tuple[Part, ...]
    repeats: tuple[np.ndarray, ...]  # of each part, of each of its kept images

    def __len__(self) -> int:
        return int(sum(times.sum() for times in self.repeats))


class Split:
    """The data sets of a data loader.

    Args:
        name: ``train``, ``val`` or ``test``.
        cfg: ``<name>_dataloader.dataset``.

    Attributes:
        also: other splits that have the same data sets.
    """

    def __init__(self, name: str, cfg: Mapping) -> None:
        self.name = name
        self.cfg = cfg
        self.also: list[str] = []
        self.parts = [Part(name, key, one) for key, one in leaves(cfg, f"{name}_dataloader.dataset")]

    @property
    def readable(self) -> list[Part]:
        """The parts whose annotations could be read."""
        return [part for part in self.parts if part.annotations is not None]

    def read(self, track: Tracker, workers: int) -> None:
        """Build the data sets and read their annotations."""
        for part in self.parts:
            _build(part)
            if part.dataset is not None:
                _read(part, track, workers)

    def round(self) -> Round:
        """Return what an epoch shows, after all sizes of images are known."""
        of_key = {part.key: part for part in self.readable}
        return _round(self.cfg, f"{self.name}_dataloader.dataset", of_key)


def leaves(cfg: Mapping, key: str) -> list[tuple[str, Mapping]]:
    """Return (key, config) of the data sets inside the wrappers of a data set's config."""
    return [leaf for inner_key, inner in _inner(cfg, key) for leaf in leaves(inner, inner_key)] or [(key, cfg)]


def _inner(cfg: Mapping, key: str) -> list[tuple[str, Mapping]]:
    if isinstance(cfg.get("dataset"), Mapping):
        return [(f"{key}.dataset", cfg["dataset"])]
    return [(f"{key}.datasets.{index}", one) for index, one in enumerate(cfg.get("datasets") or ())]


def _build(part: Part) -> None:
    """Build the data set without reading; one whose pipeline is wrong is built without, for what else there is."""
    cfg = {**copy.deepcopy(dict(part.cfg)), "lazy_init": True}
    try:
        part.dataset = DATASETS.build(cfg)
        return
    except EXPECTED as error:
        part.findings.append(config_finding(error, dict(part.cfg), part.key, part.split))
    try:
        part.dataset = DATASETS.build({**copy.deepcopy(dict(part.cfg)), "lazy_init": True, "pipeline": []})
        part.has_pipeline = False
    except EXPECTED:
        part.dataset = None


def _read(part: Part, track: Tracker, workers: int) -> None:
    try:
        if hasattr(part.dataset, "check_paths"):
            part.dataset.check_paths()
        part.annotations = read(part.dataset, track, workers)
    except EXPECTED as error:
        file = str(getattr(part.dataset, "source", "") or part.key)
        example = Example(file, "", str(error).removeprefix(f"{file}: ") or type(error).__name__)
        what = "annotation file cannot be read"
        part.findings.append(Finding("annotation-file", Severity.ERROR, what, part.split, examples=(example,)))
    else:
        part.findings += [replace(one, split=part.split) for one in part.annotations.faults]


def form_of(dataset: Any) -> str:
    """Return ``coco``, ``xml`` or ``yolo`` where the files of a data set are read as those kinds do, else ``list``."""
    load = type(dataset).load_data_list
    return next((form for form, kind in _KINDS.items() if load is kind.load_data_list), "list")


def read(dataset: Any, track: Tracker, workers: int) -> Annotations:
    """Read the annotations of a data set: its raw files, where they are of a known form, or what it makes of them."""
    form = form_of(dataset)
    if form in _IN_MANY_FILES:
        return _IN_MANY_FILES[form](dataset, track, workers)
    return read_coco(dataset) if form == "coco" else read_list(dataset)


def _round(cfg: Mapping, key: str, of_key: Mapping[str, Part]) -> Round:
    inner = _inner(cfg, key)
    if not inner:
        part = of_key.get(key)
        return Round((part,), (np.ones(len(part.kept_images), dtype=np.int64),)) if part else Round((), ())
    rounds = [_round(one, inner_key, of_key) for inner_key, one in inner]
    parts = tuple(part for one in rounds for part in one.parts)
    repeats = tuple(times for one in rounds for times in one.repeats)
    if cfg.get("oversample_thr"):
        repeats = _balanced(parts, repeats, cfg["oversample_thr"])
    return Round(parts, tuple(times * int(cfg.get("times", 1)) for times in repeats))


def _balanced(parts: tuple[Part, ...], repeats: tuple[np.ndarray, ...], threshold: float) -> tuple[np.ndarray, ...]:
    """How often ``ClassBalancedDataset`` shows each image: what its rarest class asks for (LVIS, appendix B.2)."""
    classes = len(parts[0].classes) if parts else 0
    shown = [_has_class(part, classes) for part in parts]
    images = sum(times.sum() for times in repeats)
    frequency = sum(times @ has for times, has in zip(repeats, shown, strict=True)) / max(images, 1)
    factor = np.maximum(1.0, np.sqrt(threshold / np.maximum(frequency, 1e-12)))
    return tuple(
        times * np.ceil(np.where(has, factor, 1.0).max(1, initial=1.0)).astype(np.int64)
        for times, has in zip(repeats, shown, strict=True)
    )


def _has_class(part: Part, classes: int) -> np.ndarray:
    """(kept images, classes) bool: which images show which classes."""
    has = np.zeros((part.annotations.num_images, classes), dtype=bool)
    has[part.annotations.image_index[part.is_used], part.labels[part.is_used]] = True
    return has[part.kept_images]
