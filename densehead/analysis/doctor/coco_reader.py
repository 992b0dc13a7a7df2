"""COCO annotation files, read to the end whatever is wrong in them."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from densehead.analysis.doctor.annotations import Annotations
from densehead.analysis.doctor.findings import EXAMPLES, Example, Finding, Severity, listed
from densehead.datasets import CocoDataset
from densehead.datasets.coco_file import (
    ANNOTATION_KEYS,
    CATEGORY_KEYS,
    IMAGE_KEYS,
    entry_faults,
    has_size,
    number_faults,
    open_coco,
    size_faults,
    to_columns,
    to_xyxy,
    without_gc,
)
from densehead.datasets.validate import repeated


@without_gc()
def read_coco(dataset: CocoDataset) -> Annotations:
    """Read the annotation file of a data set.

    Raises:
        ValueError: it is no JSON, or no COCO at all.
    """
    content = open_coco(dataset.ann_file, dataset.backend_args, need_annotations=not dataset.test_mode)
    return _Reader(dataset.ann_file, content).read(
        dataset.data_prefix.get("img", dataset.data_prefix.get("img_path", ""))
    )


class CocoEntries:
    """The entries of a COCO file that can be used, and why the others cannot.

    Attributes:
        images, categories, annotations: indices of the usable entries in their lists.
        bad: of each list, {index: what is wrong}; images without a size are not among them.
        sizeless: likewise, of images without a size.
        columns: of the usable annotations, see :func:`densehead.datasets.coco_file.annotation_columns`.
    """

    def __init__(self, content: Mapping[str, list]) -> None:
        keys = {"images": IMAGE_KEYS, "categories": CATEGORY_KEYS}
        self.bad = {name: dict(entry_faults(content[name], name, kinds)) for name, kinds in keys.items()}
        self.images = _others(content["images"], self.bad["images"])
        self.categories = _others(content["categories"], self.bad["categories"])
        self.sizeless = dict(size_faults(content["images"], self.bad["images"]))
        self._read_annotations(content["annotations"])

    def _read_annotations(self, annotations: Sequence) -> None:
        self.bad["annotations"] = {}
        self.annotations = list(range(len(annotations)))
        try:
            self.columns = to_columns(annotations)
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
            bad = dict(entry_faults(annotations, "annotations", ANNOTATION_KEYS))
            bad |= dict(number_faults(annotations, bad))
            self.bad["annotations"] = dict(sorted(bad.items()))
            self.annotations = _others(annotations, bad)
            self.columns = to_columns([annotations[index] for index in self.annotations])


class _Reader:
    """Makes columns of the content of a file."""

    def __init__(self, file: str, content: dict) -> None:
        self.file = file
        self.content = content
        self.entries = CocoEntries(content)
        self.faults: list[Finding] = []

    def read(self, folder: str) -> Annotations:
        """Return the columns; images are in ``folder``."""
        images, categories = self._usable("images"), self._usable("categories")
        self._report_entries()
        self._report_ids(images, categories)
        names = list(dict.fromkeys(one["name"] for one in categories))
        index_of_image = {image["id"]: index for index, image in reversed(list(enumerate(images)))}
        index_of_category = {one["id"]: names.index(one["name"]) for one in reversed(categories)}
        columns = self.entries.columns
        image_index = _look_up(columns["image_id"], index_of_image)
        name_index = _look_up(columns["category_id"], index_of_category)
        self._report_strays(image_index, name_index)
        kept = (image_index >= 0) & (name_index >= 0)
        ids = self._annotation_ids()
        return Annotations(
            file=self.file,
            item="annotation",
            image_ids=[image["id"] for image in images],
            image_paths=(paths := [os.path.join(folder, image["file_name"]) for image in images]),
            sources=paths,
            sizes=self._sizes(images),
            names=names,
            boxes=to_xyxy(columns["bbox"][kept]),
            box_ids=[ids[index] for index in np.flatnonzero(kept)],
            box_entries=np.array(self.entries.annotations, dtype=np.int64)[kept],
            image_entries=np.array(self.entries.images, dtype=np.int64),
            image_index=image_index[kept],
            name_index=name_index[kept],
            is_ignored=columns["iscrowd"][kept],
            is_left_out=columns["ignore"][kept],
            areas=columns["area"][kept],
            faults=self.faults,
        )

    def _usable(self, name: str) -> list[dict]:
        return [self.content[name][index] for index in getattr(self.entries, name)]

    def _annotation_ids(self) -> list:
        """What names each usable annotation: its id, or its place in the file where it has none."""
        annotations = self.content["annotations"]
        return [annotations[index].get("id", f"no. {index}") for index in self.entries.annotations]

    def _sizes(self, images: Sequence[dict]) -> np.ndarray:
        sizes = [(image["width"], image["height"]) if has_size(image) else (np.nan, np.nan) for image in images]
        return np.array(sizes, dtype=np.float64).reshape(-1, 2)

    def _report_entries(self) -> None:
        for name, bad in (*self.entries.bad.items(), ("images", self.entries.sizeless)):
            if bad:
                what = f"entries of '{name}' cannot be used"
                total = len(self.content[name])
                self._add("annotation-entry", Severity.ERROR, what, len(bad), total, _described(self.file, bad))

    def _report_ids(self, images: Sequence[dict], categories: Sequence[dict]) -> None:
        annotations = self._usable("annotations")
        for name, entries, key in (
            ("images", images, "id"),
            ("categories", categories, "id"),
            ("categories", categories, "name"),
            ("annotations", annotations, "id"),
        ):
            found = list(repeated([one[key] for one in entries if key in one]))
            examples = [Example(self.file, name, f"{key} {one!r} is there again") for one, _, _ in found[:EXAMPLES]]
            if found:
                what = f"entries of '{name}' have the {key} of another"
                self._add("id-twice", Severity.ERROR, what, len(found), len(entries), examples)
        again = list(repeated([image["file_name"] for image in images]))
        if again:
            examples = [Example(self.file, f"image {images[one]['id']}", name) for name, _, one in again[:EXAMPLES]]
            what = "images name a file that another names too"
            self._add("file-twice", Severity.WARNING, what, len(again), len(images), examples)

    def _report_strays(self, image_index: np.ndarray, name_index: np.ndarray) -> None:
        kinds = (
            ("stray-annotation", image_index < 0, "image_id", "an image that 'images' does not list"),
            ("unknown-category", (image_index >= 0) & (name_index < 0), "category_id", "a category that is not listed"),
        )
        for check, is_stray, key, what in kinds:
            stray = np.flatnonzero(is_stray)
            if len(stray):
                ids, values = self._annotation_ids(), self.entries.columns[key]
                examples = [
                    Example(self.file, f"annotation {ids[i]}", f"{key} {values[i]!r}") for i in stray[:EXAMPLES]
                ]
                severity = Severity.ERROR if is_stray.all() else Severity.WARNING
                what = f"annotations are of {what} ({listed(sorted({repr(values[i]) for i in stray[:EXAMPLES]}), 4)})"
                self._add(check, severity, what, len(stray), len(is_stray), examples)

    def _add(
        self, check: str, severity: Severity, what: str, count: int, total: int, examples: Iterable[Example]
    ) -> None:
        self.faults.append(Finding(check, severity, what, count=count, total=total, examples=tuple(examples)))


def _others(entries: Sequence, bad: Mapping[int, str]) -> list[int]:
    return [index for index in range(len(entries)) if index not in bad]


def _look_up(values: Iterable, index_of: Mapping) -> np.ndarray:
    return np.array([index_of.get(value, -1) for value in values], dtype=np.int64)


def _described(file: str, bad: Mapping[int, str]) -> list[Example]:
    return [Example(file, detail=text) for text in list(bad.values())[:EXAMPLES]]
