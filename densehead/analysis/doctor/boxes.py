"""Checks of the boxes of an annotation file."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from densehead.analysis.doctor.annotations import Annotations
from densehead.analysis.doctor.findings import Example, Finding, Severity, examples_of, graded
from densehead.analysis.doctor.parts import Part, form_of
from densehead.datasets.validate import ROUNDING
from densehead.ops import aligned_iou

#: From this share of boxes that are dropped on, the file rather than the boxes is wrong.
MANY = 0.1
#: Two boxes are the same where their sides agree up to rounding and they overlap this much, ...
SAME_IOU = 0.8
#: ... and nearly the same where they overlap this much.
NEAR_IOU = 0.9
_DROPPED = (
    ("box-nan", "boxes have NaN or infinite coordinates"),
    ("box-empty", "boxes have no extent (a side below 1 pixel, or an area of 0)"),
    ("box-outside", "boxes lie outside their image"),
)


def check_boxes(part: Part) -> list[Finding]:
    """Return what is wrong with the boxes of a data set; those of classes that it is not asked for do not count."""
    found, wanted = part.annotations, part.labels >= 0
    wanted &= ~found.is_left_out
    if form_of(part.dataset) == "coco" and (finding := _format(part, wanted)):
        return [finding]
    return [*_dropped(part, wanted), *_twice(part, wanted)]


def _dropped(part: Part, wanted: np.ndarray) -> Iterable[Finding]:
    found, check, total = part.annotations, part.check, int(wanted.sum())
    for (name, what), indices in zip(_DROPPED, check.dropped.values(), strict=True):
        bad = indices[wanted[indices]]
        if len(bad):
            severity = graded(len(bad) / total, warning=0, error=MANY)
            yield Finding(name, severity, what, part.split, len(bad), total, examples_of(bad, found.box_example))
    clipped = check.clipped[wanted[check.clipped]]
    if len(clipped):
        severity = graded(len(clipped) / total, warning=0, error=0.5)
        what = f"boxes reach more than {ROUNDING:g} pixel out of their image"
        examples = examples_of(clipped, found.box_example)
        yield Finding("box-clipped", severity, what, part.split, len(clipped), total, examples)


def _format(part: Part, wanted: np.ndarray) -> Finding | None:
    """Whether the boxes of a COCO file are written in another way than COCO's."""
    found = part.annotations
    with np.errstate(invalid="ignore", over="ignore"):
        second = found.boxes[:, 2:] - found.boxes[:, :2]  # the last two numbers as the file has them
    finite = wanted & np.isfinite(found.boxes).all(1)
    if finite.sum() < 10:
        return None
    first, second, sizes = found.boxes[finite, :2], second[finite], found.sizes[found.image_index[finite]]
    as_corners = ((second > first) & (second <= sizes + ROUNDING)).all(1)
    as_file = (first + second <= sizes + ROUNDING).all(1) & (second > 0).all(1)
    what = ""
    if max(first.max(), second.max()) <= 1 and np.nan_to_num(sizes, nan=np.inf).min() > 4:
        what = "boxes are fractions of the image rather than pixels"
    elif as_file.mean() < 1 - MANY and as_corners.mean() > 0.99:
        what = "boxes look like two corners (x, y, x, y) rather than corner and size (x, y, width, height)"
    if not what:
        return None

    examples = examples_of(np.flatnonzero(finite), found.box_example)
    return Finding("box-format", Severity.ERROR, what, part.split, int(finite.sum()), int(wanted.sum()), examples)


def _twice(part: Part, wanted: np.ndarray) -> Iterable[Finding]:
    found, twins = part.annotations, Twins.of(part, wanted)
    for check, of_kind, what in (
        ("box-twice", twins.is_exact & twins.is_same_class, "boxes are there twice, with the same class"),
        ("box-two-classes", twins.is_exact & ~twins.is_same_class, "boxes are there twice, with different classes"),
        (
            "box-near-twice",
            ~twins.is_exact & twins.is_same_class,
            f"boxes are nearly the same as another of their class (IoU {NEAR_IOU:g} or more)",
        ),
    ):
        pairs = dict(zip(twins.second[of_kind].tolist(), twins.first[of_kind].tolist(), strict=True))
        if pairs:
            examples = examples_of(sorted(pairs), lambda box, pairs=pairs: _pair(found, pairs[box], box))
            yield Finding(check, Severity.WARNING, what, part.split, len(pairs), int(wanted.sum()), examples)


def _pair(found: Annotations, first: int, second: int) -> Example:
    names = [found.names[found.name_index[box]] for box in (first, second)]
    boxes = [found.written(box) for box in (first, second)]
    told = f"{names[1]} {boxes[1]} is "
    told += f"{names[0]} " if names[0] != names[1] else ""
    told += f"{found.item} {found.box_ids[first]}" + (f" {boxes[0]}" if boxes[0] != boxes[1] else "")
    return found.box_example(second, told)


@dataclass(frozen=True)
class Twins:
    """Pairs of boxes of an image that are the same, or nearly.

    Attributes:
        first, second: (p,) the earlier and the later box of each pair.
        is_exact: (p,) bool, whether they are the same up to rounding.
        is_same_class: (p,) bool.
    """

    first: np.ndarray
    second: np.ndarray
    is_exact: np.ndarray
    is_same_class: np.ndarray

    @classmethod
    def of(cls, part: Part, wanted: np.ndarray) -> Twins:
        """Return those among ``wanted`` (n,) bool boxes of a part; crowds and what training drops do not count."""
        found = part.annotations
        usable = np.flatnonzero(wanted & part.check.keep & ~found.is_ignored)
        first, second, is_exact = same_boxes(found.boxes[usable], found.image_index[usable])
        first, second = usable[first], usable[second]
        return cls(first, second, is_exact, found.name_index[first] == found.name_index[second])


def same_boxes(boxes: np.ndarray, image_index: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the pairs of boxes of an image that are nearly the same.

    Args:
        boxes: (n, 4) xyxy, pixels.
        image_index: (n,) the image of each.

    Returns:
        (p,) the earlier and (p,) the later of each pair, and (p,) bool, whether they are the same up to rounding.
    """
    order = np.lexsort((boxes[:, 0], image_index))
    boxes, images = boxes[order], image_index[order]
    # where the right one of two begins farther behind the left one, they overlap less
    reach = np.maximum((1 - NEAR_IOU) * (boxes[:, 2] - boxes[:, 0]), ROUNDING)
    active, step, found = np.arange(len(boxes)), 0, []
    # boxes that begin at the same place stand beside each other: one compares with the next, the one after, ...
    while len(active):
        step += 1
        active = active[active + step < len(boxes)]
        other = active + step
        active = active[(images[active] == images[other]) & (boxes[other, 0] - boxes[active, 0] <= reach[active])]
        other = active + step
        is_exact = (np.abs(boxes[active] - boxes[other]) <= ROUNDING).all(1)
        iou = aligned_iou(torch.from_numpy(boxes[active]), torch.from_numpy(boxes[other])).numpy()
        is_same = iou >= np.where(is_exact, SAME_IOU, NEAR_IOU)
        pair = np.sort(np.stack([order[active], order[other]]), axis=0)
        found.append(np.concatenate([pair, is_exact[None]])[:, is_same])
    first, second, is_exact = np.concatenate(found, axis=1) if found else np.zeros((3, 0), dtype=np.int64)
    return first, second, is_exact.astype(bool)
