"""Sizes of objects, as training sees them, against the levels of the pyramid."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from torch import nn

from densehead.analysis.doctor.findings import Example, Finding, Severity, examples_of, graded
from densehead.analysis.doctor.page import Section
from densehead.analysis.doctor.parts import Part
from densehead.analysis.doctor.scaling import scale
from densehead.models.assigners import FCOSAssigner
from densehead.models.heads.base import POINT_BOX_SCALE

#: A level with less than this share of the objects gets next to none.
NEXT_TO_NONE = 1e-3
#: Objects of training and of validation may differ by this factor in size.
SHIFT = 2.0


@dataclass(frozen=True)
class LevelRule:
    """Which level answers for an object of which size.

    Attributes:
        strides: of each level, pixels.
        ranges: (smallest, largest) distance of each level from a point to the farthest side, pixels; None where the
            rule does not go by distances.
        anchors: sides of the anchors of each level (of a square of their area), pixels; None where it has none.
        reg_max: the farthest side that can be told, in strides; None where there is no limit.
    """

    strides: Sequence[float]
    ranges: Sequence[tuple[float, float]] | None = None
    anchors: Sequence[np.ndarray] | None = None
    reg_max: float | None = None

    @classmethod
    def of(cls, head: nn.Module) -> LevelRule:
        """Return the rule of a head and its assigner."""
        generator, assigner = head.prior_generator, getattr(head, "assigner", None)
        strides = [max(stride) for stride in generator.strides]
        reg_max = getattr(head, "reg_max", None)
        if isinstance(assigner, FCOSAssigner):
            return cls(strides, ranges=assigner.regress_ranges, reg_max=reg_max)
        if getattr(assigner, "needs_extent", False):
            sides = [_sides(getattr(head, "atss_prior_generator", generator), level) for level in range(len(strides))]
            usual = head.train_cfg.get("point_box_scale", POINT_BOX_SCALE)
            anchors = [one if one.all() else np.array([usual * s]) for one, s in zip(sides, strides, strict=True)]
            return cls(strides, anchors=anchors, reg_max=reg_max)
        return cls(strides, reg_max=reg_max)

    def levels(self, sizes: np.ndarray) -> np.ndarray | None:
        """Return (n,) the level that answers for objects of sizes (n, 2), seen from their centres.

        -1 where none does; None where any may. With anchors it is the level whose anchor is nearest in size.
        """
        if self.ranges is not None:
            far = sizes.max(1) / 2
            fits = np.stack([(far >= low) & (far <= high) for low, high in self.ranges])
            return np.where(fits.any(0), fits.argmax(0), -1)
        if self.anchors is None:
            return None
        # halfway between two anchors is their geometric mean
        sides = np.concatenate(list(self.anchors))
        level = np.repeat(np.arange(len(self.anchors)), [len(one) for one in self.anchors])
        order = np.argsort(sides, kind="stable")
        between = np.sqrt(sides[order][1:] * sides[order][:-1])
        return level[order][np.searchsorted(between, np.sqrt(sizes.prod(1)))]

    def reach(self, levels: np.ndarray | None) -> np.ndarray | float:
        """Return the farthest side (pixels) that can be told on levels (n,), on any level where they are None."""
        if self.reg_max is None:
            return np.inf
        reach = self.reg_max * np.array(self.strides, dtype=np.float64)
        return reach.max() if levels is None else reach[levels]

    def told(self, level: int) -> str:
        """Return in words which objects a level is for."""
        if self.ranges is not None:
            low, high = (2 * max(limit, 0) for limit in self.ranges[level])
            return f"{low:g} to {high:g} px long" if high < 1e7 else f"from {low:g} px long"
        if self.anchors is not None:
            return "anchors of " + ", ".join(f"{side:.0f}" for side in sorted(set(self.anchors[level]))[:4]) + " px"
        return "any size"


@dataclass(frozen=True)
class _Sizes:
    """What the pipeline makes of the objects of a part.

    Attributes:
        part: whose objects.
        boxes: (n,) indices of the objects.
        sizes: of each way of the pipeline (n, 2) width and height, pixels.
        weights: how likely each way is.
        unknown: transforms whose effect is not known.
    """

    part: Part
    boxes: np.ndarray
    sizes: list[np.ndarray]
    weights: list[float]
    unknown: list[str]

    def usual(self, flags: Iterable[np.ndarray]) -> np.ndarray:
        """Return (n,) bool: what holds for an object in at least half of the ways, by their weights."""
        return sum(weight * flag for weight, flag in zip(self.weights, flags, strict=True)) >= 0.5

    def mean_size(self) -> np.ndarray:
        """Return (n, 2) width and height on average."""
        return sum(weight * size for weight, size in zip(self.weights, self.sizes, strict=True))


def object_sizes(part: Part) -> _Sizes:
    """Return the sizes of the objects of a part after its pipeline."""
    found = part.annotations
    ways, unknown = scale(part.pipeline, found.sizes)
    boxes = np.flatnonzero(part.is_object & ~np.isnan(found.sizes).any(1)[found.image_index])
    corners, images = part.check.boxes[boxes], found.image_index[boxes]
    size = corners[:, 2:] - corners[:, :2]
    return _Sizes(part, boxes, [size * way.factor[images] for way in ways], [way.weight for way in ways], unknown)


def check_levels(parts: Sequence[Part], rule: LevelRule) -> tuple[list[Finding], Section | None]:
    """Compare the objects that are trained on with the levels; return what is wrong, and a table of the levels."""
    of_parts = [object_sizes(part) for part in parts]
    of_parts = [one for one in of_parts if len(one.boxes)]
    if not of_parts:
        return [], None
    findings = [finding for one in of_parts for finding in _check_part(one, rule)]
    counts = sum(_count(one, rule) for one in of_parts)
    if rule.ranges is None and rule.anchors is None:
        return findings, None
    shares = counts[:-1] / counts.sum()
    findings += _empty_levels(shares, rule)
    unknown = list(dict.fromkeys(name for one in of_parts for name in one.unknown))
    return findings, _section(shares, counts[-1] / counts.sum(), rule, unknown)


def check_shift(train: Sequence[Part], val: Sequence[Part]) -> list[Finding]:
    """Compare the sizes of the objects of training and of validation, each after its own pipeline."""
    medians = [_median(parts) for parts in (train, val)]
    if None in medians or 1 / SHIFT <= medians[0] / medians[1] <= SHIFT:
        return []
    what = (
        f"objects are {medians[1]:.0f} pixels large in the middle, those of training {medians[0]:.0f}, after the "
        "resizing of each"
    )
    return [Finding("scale-shift", Severity.WARNING, what, val[0].split, examples=(Example(f"{val[0].key}.pipeline"),))]


def _check_part(one: _Sizes, rule: LevelRule) -> Iterable[Finding]:
    total, finest = len(one.boxes), min(rule.strides)
    tiny = one.usual(size.max(1) < finest for size in one.sizes)
    if tiny.any():
        what = f"objects are smaller than a cell of the finest level (stride {finest:g}) after resizing"
        severity = graded(tiny.mean())
        yield Finding("object-tiny", severity, what, one.part.split, int(tiny.sum()), total, _examples(one, tiny))
    levels = [rule.levels(size) for size in one.sizes]
    if rule.reg_max is not None:
        beyond = one.usual(size.max(1) / 2 > rule.reach(level) for size, level in zip(one.sizes, levels, strict=True))
        if beyond.any():
            what = f"objects reach farther from their centre than reg_max={rule.reg_max} strides of their level"
            severity = graded(beyond.mean())
            examples = _examples(one, beyond)
            yield Finding("beyond-reach", severity, what, one.part.split, int(beyond.sum()), total, examples)
    if rule.ranges is not None:
        lost = one.usual(level < 0 for level in levels)
        if lost.any():
            what = "objects have a size that no range of regress_ranges holds"
            severity = graded(lost.mean(), warning=0, error=0.01)
            examples = _examples(one, lost)
            yield Finding("level-gap", severity, what, one.part.split, int(lost.sum()), total, examples)


def _examples(one: _Sizes, flags: np.ndarray) -> tuple[Example, ...]:
    found, after = one.part.annotations, one.mean_size()

    def describe(index: int) -> Example:
        box, (width, height) = one.boxes[index], after[index]
        name = found.names[found.name_index[box]]
        told = f"{name} {found.written(box)} becomes {width:.3g} x {height:.3g}"
        return found.box_example(box, told)

    return examples_of(np.flatnonzero(flags), describe)


def _count(one: _Sizes, rule: LevelRule) -> np.ndarray:
    """Objects of each level, and of none; each way counts by its weight."""
    counts = np.zeros(len(rule.strides) + 1)
    for size, weight in zip(one.sizes, one.weights, strict=True):
        levels = rule.levels(size)
        if levels is not None:
            counts += weight * np.bincount(levels % len(counts), minlength=len(counts))
    return counts


def _empty_levels(shares: np.ndarray, rule: LevelRule) -> Iterable[Finding]:
    empty = np.flatnonzero(shares < NEXT_TO_NONE)
    if not len(empty) or not shares.sum():
        return
    # coarse levels at the end cost next to nothing
    is_harmless = empty[0] > np.flatnonzero(shares >= NEXT_TO_NONE)[-1]
    severity = Severity.NOTE if is_harmless else Severity.WARNING
    what = "pyramid levels get no object, or next to none"
    examples = tuple(
        Example(
            "model.bbox_head",
            f"level {level} (stride {rule.strides[level]:g}, {rule.told(level)})",
            f"{shares[level]:.2%} of the objects",
        )
        for level in empty
    )
    yield Finding("level-empty", severity, what, "train", len(empty), len(shares), examples)


def _section(shares: np.ndarray, none: float, rule: LevelRule, unknown: list[str]) -> Section:
    rows = [
        (str(level), f"{rule.strides[level]:g}", rule.told(level), f"{share:.1%}") for level, share in enumerate(shares)
    ]
    if none:
        rows.append(("none", "", "", f"{none:.1%}"))
    notes = []
    if unknown:
        notes = [f"What {', '.join(unknown)} of the pipeline does to sizes is not known and not counted."]
    data = [
        {"level": level, "stride": rule.strides[level], "for": rule.told(level), "share": float(share)}
        for level, share in enumerate(shares)
    ]
    title = "Objects on the levels (their size after the training pipeline, seen from their centre)"
    return Section("levels", title, ("level", "stride", "is for", "objects"), rows, notes, data)


def _median(parts: Sequence[Part]) -> float | None:
    """The middle size (root of the area, pixels) of the objects of parts; None where there are none."""
    middles, weights = [], []
    for part in parts:
        one = object_sizes(part)
        if len(one.boxes):
            logs = [np.log(np.sqrt(size.prod(1)).clip(min=1e-6)) for size in one.sizes]
            middles.append(sum(weight * np.median(log) for weight, log in zip(one.weights, logs, strict=True)))
            weights.append(len(one.boxes))
    return float(np.exp(np.average(middles, weights=weights))) if middles else None


def _sides(generator, level: int) -> np.ndarray:
    """Sides of squares of the areas of the priors at a place of a level, pixels."""
    boxes = generator.base_boxes(level).cpu().numpy().astype(np.float64)
    return np.sqrt((boxes[:, 2:] - boxes[:, :2]).prod(1))
