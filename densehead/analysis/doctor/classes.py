"""Checks of classes: names, and how many objects each has."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from densehead.analysis.doctor.findings import Example, Finding, Severity, counted, listed
from densehead.analysis.doctor.page import Section
from densehead.analysis.doctor.parts import Part, Split
from densehead.arguments import near

#: Fewer objects than this are hardly learned.
FEW = 20
#: The most frequent class may have so many times the objects of the rarest.
BALANCE = 50.0
#: A class's share of the objects may differ by this factor between training and validation, ...
SHIFT = 2.0
#: ... or by so many standard deviations of what chance does.
CHANCE = 4.0


def check_names(part: Part) -> list[Finding]:
    """Compare the classes that a data set is asked for with the categories of its file."""
    counts, classes = part.annotations.counts(), part.classes
    examples = [Example(part.annotations.file, detail=f"classes: {listed(classes)}; the file has: {listed([*counts])}")]
    if counts and not set(counts) & set(classes):
        what = "none of the classes is in the annotation file"
        return [Finding("classes-none", Severity.ERROR, what, part.split, len(classes), len(classes), tuple(examples))]
    unnamed = {name: count for name, count in counts.items() if name not in classes and count}
    if not unnamed:
        return []
    examples = [
        Example(part.annotations.file, repr(name), f"{counted(count, 'object')}.{near(name, classes, count=1)}")
        for name, count in sorted(unnamed.items(), key=lambda one: -one[1])
    ]
    what = f"categories of the file, with {counted(sum(unnamed.values()), 'object')}, are none of the classes"
    return [Finding("category-unnamed", Severity.WARNING, what, part.split, len(unnamed), len(counts), tuple(examples))]


def check_agreement(splits: Sequence[Split]) -> list[Finding]:
    """Return the data sets whose classes are others than those of the first, or stand in another order."""
    parts = [part for split in splits for part in split.parts if part.dataset is not None]
    found = []
    for part in parts[1:]:
        if part.classes != parts[0].classes:
            kind = "in another order" if set(part.classes) == set(parts[0].classes) else "other ones"
            what = f"classes are not those of {parts[0].key}"
            detail = f"{kind}: {listed(part.classes)}; there: {listed(parts[0].classes)}"
            examples = (Example(f"{part.key}.metainfo.classes", "", detail),)
            found.append(Finding("classes-differ", Severity.ERROR, what, part.split, examples=examples))
    return found


class ClassCounts:
    """How many objects of each class a split has, and how many images show it.

    Args:
        parts: with the same classes.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self.parts = parts
        self.classes = parts[0].classes if parts else ()
        self.objects, self.images = np.zeros((2, len(self.classes)), dtype=np.int64)
        for part in parts:
            if part.classes == self.classes:
                labels, images = part.labels[part.is_object], part.annotations.image_index[part.is_object]
                self.objects += np.bincount(labels, minlength=len(self.classes))
                shown = np.unique(np.stack([labels, images]), axis=1)[0]
                self.images += np.bincount(shown, minlength=len(self.classes))

    def names_in_files(self) -> Counter:
        """Return the categories of the files."""
        return Counter(name for part in self.parts for name in part.annotations.names)


def check_counts(train: ClassCounts, val: ClassCounts | None) -> list[Finding]:
    """Check that every class has objects, enough of them, and about as many in training as elsewhere."""
    found = [*_absent(train, Severity.WARNING)]
    if val is not None and val.classes == train.classes:
        found += [*_absent(val, Severity.NOTE), *_shifted(train, val)]
    return [*found, *_rare(train)]


def class_section(counts: Sequence[ClassCounts], *, shown: int = 12) -> Section | None:
    """Return a table of the classes of splits, the most frequent first, of many only some at both ends."""
    counts = [one for one in counts if one.parts]
    if not counts or not counts[0].classes:
        return None
    order = np.argsort(-counts[0].objects, kind="stable").tolist()
    names_of = counts[0].classes
    counts = [one for one in counts if one.classes == names_of]
    names = [one.parts[0].split for one in counts]
    header = ["class", *(f"{name} {what}" for name in names for what in ("objects", "images"))]
    values = np.stack([column for one in counts for column in (one.objects, one.images)], axis=1).tolist()
    rows = {index: [names_of[index], *(f"{value:,}" for value in values[index])] for index in order}
    keys = [name.replace(" ", "_") for name in header]
    data = [dict(zip(keys, (names_of[index], *values[index]), strict=True)) for index in order]
    ends = [*order[: shown // 2], *order[-(shown // 2) :]] if len(order) > shown else order
    notes = [f"{len(order) - len(ends)} classes between these are left out."] if len(order) > len(ends) else []
    return Section("classes", "Classes", header, [rows[index] for index in ends], notes, data)


def _absent(counts: ClassCounts, severity: Severity) -> Iterable[Finding]:
    absent = np.flatnonzero(counts.objects == 0)
    if not len(absent) or len(absent) == len(counts.classes):  # all: said of the boxes or of the names
        return
    there = counts.names_in_files()
    spare = [name for name in there if name not in counts.classes]
    examples = []
    for index in absent:
        name = counts.classes[index]
        why = (
            "its boxes are of no use, or there are none" if name in there else f"not in the file.{near(name, spare, 1)}"
        )
        examples.append(Example(counts.parts[0].annotations.file, repr(name), why))
    split = counts.parts[0].split
    total = len(counts.classes)
    yield Finding("class-absent", severity, "classes have no object", split, len(absent), total, tuple(examples))


def _rare(train: ClassCounts) -> Iterable[Finding]:
    present = train.objects > 0
    rare = np.flatnonzero(present & (train.objects < FEW))
    split, total = "train", len(train.classes)

    def example(index: int) -> Example:
        told = f"{counted(int(train.objects[index]), 'object')} in {counted(int(train.images[index]), 'image')}"
        return Example(train.parts[0].annotations.file, repr(train.classes[index]), told)

    if len(rare):
        examples = tuple(example(index) for index in rare[np.argsort(train.objects[rare], kind="stable")])
        what = f"classes have fewer than {FEW} objects"
        yield Finding("class-rare", Severity.WARNING, what, split, len(rare), total, examples)
    if present.sum() > 1:
        most, least = train.objects.argmax(), np.where(present, train.objects, train.objects.max() + 1).argmin()
        ratio = train.objects[most] / train.objects[least]
        if ratio > BALANCE:
            few = np.flatnonzero(present & (train.objects * BALANCE < train.objects[most]))
            few = few[np.argsort(train.objects[few], kind="stable")]
            what = f"classes have less than 1/{BALANCE:g} of the objects of {train.classes[most]!r}"
            what += f" ({train.objects[most]:,})"
            examples = tuple(example(index) for index in few)
            yield Finding("class-balance", Severity.WARNING, what, split, len(few), total, examples)


def _shifted(train: ClassCounts, val: ClassCounts) -> Iterable[Finding]:
    sums = train.objects.sum(), val.objects.sum()
    if not all(sums):
        return
    shares = train.objects / sums[0], val.objects / sums[1]
    pooled = (train.objects + val.objects) / sum(sums)
    chance = np.sqrt(pooled * (1 - pooled) * (1 / sums[0] + 1 / sums[1]))
    low, high = np.minimum(*shares), np.maximum(*shares)
    shifted = np.flatnonzero((high - low > CHANCE * chance) & (high > SHIFT * low) & (train.objects > 0))
    if len(shifted):
        examples = tuple(
            Example(
                val.parts[0].annotations.file,
                repr(val.classes[index]),
                f"{shares[1][index]:.1%} of the objects, {shares[0][index]:.1%} of those of training",
            )
            for index in shifted
        )
        what = "classes are more frequent, or less, than in training"
        split = val.parts[0].split
        yield Finding("class-shift", Severity.WARNING, what, split, len(shifted), len(val.classes), examples)
