"""What assigners do over a data set: positives of an object by its size, by level and by class, in constant memory."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from densehead.analysis.records import AssignmentRecord
from densehead.evaluation.coco_api import AREA_RANGES

#: Sizes of objects (roots of their areas, pixels) are counted in half octaves from 4 to 1024, and below and above.
SIZE_EDGES = np.concatenate([[0.0], 2.0 ** np.arange(2, 10.5, 0.5), [np.inf]])
#: COCO's groups of sizes, the roots of its areas, in pixels of the input image.
GROUPS = {name: tuple(np.sqrt(AREA_RANGES[key])) for name, key in (("small", "s"), ("medium", "m"), ("large", "l"))}
CHUNK = 1 << 22  # pairs of a point and a box that are looked at together


class ColumnStatistics:
    """What one assigner has done so far; counts only, so that means and shares are exact whatever was added before.

    Args:
        num_classes: number of classes.
        strides: (L,) of the levels, pixels.

    Attributes:
        images: number of images.
        histogram: (S, K) objects by bin of size (:data:`SIZE_EDGES`) and by number of positives, 0 to ``K - 1``.
        group_objects, group_missed, group_positives: (3,) objects of :data:`GROUPS`, those of them that no prior
            answers for, and their positives.
        class_objects, class_missed, class_positives: (C,) the same of the classes.
        level_objects: (L,) objects that have a positive on the level.
        level_positives: (S, L) positives by bin of size and by level.
        size_weight, level_weight: (S,) and (L,) sums of the positives' weights.
        weight_name: what the weights are.
        ambiguous: positives whose point lies inside the boxes of two or more objects.
        sharing: objects that have such a positive.
    """

    def __init__(self, num_classes: int, strides: Sequence[float]) -> None:
        bins = len(SIZE_EDGES) - 1
        self.strides = np.asarray(strides)
        self.images = self.ambiguous = self.sharing = 0
        self.weight_name = ""
        self.histogram = np.zeros((bins, 1), np.int64)
        self.group_objects, self.group_missed, self.group_positives = np.zeros((3, len(GROUPS)), np.int64)
        self.class_objects, self.class_missed, self.class_positives = np.zeros((3, num_classes), np.int64)
        self.level_objects = np.zeros(len(self.strides), np.int64)
        self.level_positives = np.zeros((bins, len(self.strides)), np.int64)
        self.size_weight = np.zeros(bins)
        self.level_weight = np.zeros(len(self.strides))

    def add(self, record: AssignmentRecord) -> None:
        """Count an image."""
        sizes, counts = object_sizes(record.boxes), record.counts()
        positives, bins = counts.sum(1), size_bins(sizes)
        level = record.level_index[record.prior_index]
        self.images += 1
        self.weight_name = record.weight_name
        self._count_objects(bins, positives)
        groups = np.searchsorted([low for low, _ in GROUPS.values()], sizes, side="right") - 1
        for name, index in (("group", groups), ("class", record.labels)):
            _add(getattr(self, f"{name}_objects"), index)
            _add(getattr(self, f"{name}_missed"), index[positives == 0])
            _add(getattr(self, f"{name}_positives"), index, positives)
        self.level_objects += (counts > 0).sum(0)
        np.add.at(self.level_positives, bins, counts)
        _add(self.size_weight, bins[record.gt_index], record.weight)
        _add(self.level_weight, level, record.weight)
        is_ambiguous = ambiguous_positives(record)
        self.ambiguous += int(is_ambiguous.sum())
        self.sharing += len(np.unique(record.gt_index[is_ambiguous]))

    def _count_objects(self, bins: np.ndarray, positives: np.ndarray) -> None:
        wider = positives.max(initial=0) + 1 - self.histogram.shape[1]
        if wider > 0:
            self.histogram = np.pad(self.histogram, ((0, 0), (0, wider)))
        np.add.at(self.histogram, (bins, positives), 1)

    @property
    def objects(self) -> int:
        """Number of objects."""
        return int(self.histogram.sum())

    @property
    def positives(self) -> int:
        """Number of positives."""
        return int(self.level_positives.sum())

    @property
    def missed(self) -> int:
        """Number of objects that no prior answers for."""
        return int(self.histogram[:, 0].sum())

    @property
    def size_objects(self) -> np.ndarray:
        """(S,) objects by bin of size."""
        return self.histogram.sum(1)

    def quartiles(self, of_sizes: bool = False) -> np.ndarray:
        """Return (3,), or (S, 3) by bin of size: positives that a quarter, half and three quarters of the objects have
        at most; NaN where there is no object.
        """
        histogram = self.histogram if of_sizes else self.histogram.sum(0, keepdims=True)
        reached, total = histogram.cumsum(1), histogram.sum(1)
        quarters = [(reached >= share * total[:, None]).argmax(1) for share in (0.25, 0.5, 0.75)]
        found = np.where(total[:, None] > 0, np.stack(quarters, 1), np.nan)
        return found if of_sizes else found[0]


class AssignmentStatistics:
    """Statistics of one assigner or several (the columns) over the images of a data set.

    Memory does not grow with the number of images.

    Args:
        classes: names of the classes.

    Attributes:
        columns: by title, in the order in which they were first added.
    """

    def __init__(self, classes: Sequence[str]) -> None:
        self.classes = tuple(classes)
        self.columns: dict[str, ColumnStatistics] = {}

    def add(self, title: str, record: AssignmentRecord) -> None:
        """Count an image in a column.

        Raises:
            ValueError: the record's levels are not those of the column's other images, or a label has no name.
        """
        column = self.columns.setdefault(title, ColumnStatistics(len(self.classes), record.strides))
        if not np.array_equal(column.strides, record.strides):
            raise ValueError(
                f"{title}: all images must have the same levels, but after the strides {column.strides.tolist()} came "
                f"{record.strides.tolist()}"
            )
        if record.labels.max(initial=-1) >= len(self.classes):
            raise ValueError(
                f"{title}: labels must be below the number of classes, {len(self.classes)}, but got "
                f"{record.labels.max()}"
            )
        column.add(record)


def object_sizes(boxes: np.ndarray) -> np.ndarray:
    """Return (G,) the roots of the areas of boxes (G, 4), pixels."""
    return np.sqrt(np.maximum(boxes[:, 2:] - boxes[:, :2], 0).prod(1))


def size_bins(sizes: np.ndarray) -> np.ndarray:
    """Return (G,) the bins of :data:`SIZE_EDGES` that sizes are in, their lower edge included."""
    return np.searchsorted(SIZE_EDGES[1:-1], sizes, side="right")


def ambiguous_positives(record: AssignmentRecord) -> np.ndarray:
    """Return (N,) bool: positives whose point lies inside the boxes of two or more objects, sides not included."""
    x, y = record.points[record.prior_index].T[..., None]
    left, top, right, bottom = record.boxes.T
    step = max(1, CHUNK // max(len(record.boxes), 1))
    found = [
        ((x[rows] > left) & (x[rows] < right) & (y[rows] > top) & (y[rows] < bottom)).sum(1) > 1
        for rows in (slice(first, first + step) for first in range(0, len(x), step))
    ]
    return np.concatenate(found) if found else np.zeros(0, bool)


def ratio(part: np.ndarray | float, whole: np.ndarray | float) -> np.ndarray:
    """Return ``part / whole``, NaN where the whole is 0."""
    part, whole = np.asarray(part, float), np.asarray(whole, float)
    return np.divide(part, whole, out=np.full(np.broadcast(part, whole).shape, np.nan), where=whole > 0)


def _add(counts: np.ndarray, index: np.ndarray, values: np.ndarray | None = None) -> None:
    """Add 1, or the values, at the indices of ``counts``, in place."""
    counts += np.bincount(index, values, minlength=len(counts)).astype(counts.dtype)
