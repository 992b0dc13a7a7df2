"""Time and memory of losses and gradients against the number of ground truths, of images, and the images' size."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import torch

from densehead.apis.benchmark import machine
from densehead.apis.benchmark.heads import Advance, HeadOptions, measure_calls, prepare
from densehead.apis.benchmark.sides import CONFIGS, OURS, THEIRS, Side, head_config
from densehead.apis.benchmark.tables import value_name
from densehead.typing import Size

AXES = ("truths", "images", "size")
PATIENCE = 3  # how many times the limit mmdetection's head may be expected to take
SPARE = 0.6  # share of the free memory that mmdetection's head may be expected to need
STAGE = "loss+backward"


@dataclass(frozen=True)
class ScalingOptions:
    """What is measured: along each axis with the other two at their ``at_...``.

    Attributes:
        configs, heads, classes, rounds, seconds, device, reference, memory, seed: see :class:`HeadOptions`.
        axes: of ``AXES``.
        truths: ground truths of an image.
        images: in a batch.
        sizes: height and width of the images, pixels.
        at_truths, at_images, at_size: where the other axes are measured.
        limit: seconds; where mmdetection's head took longer, or is expected to take ``PATIENCE`` times as long, it is
            not measured at larger values of that axis.
    """

    configs: str
    heads: Sequence[str] = tuple(CONFIGS)
    axes: Sequence[str] = AXES
    truths: Sequence[int] = (1, 3, 10, 30, 60, 100, 300, 1000)
    images: Sequence[int] = (1, 2, 4, 8, 16, 32)
    sizes: Sequence[Size] = ((320, 320), (480, 800), (800, 1344), (1200, 2016))
    at_truths: int = 7
    at_images: int = 4
    at_size: Size = (800, 1344)
    classes: int = 80
    rounds: int = 3
    seconds: float = 10.0
    limit: float = 2.0
    device: str = "cpu"
    reference: bool = True
    memory: bool = True
    seed: int = 0

    def points(self) -> Iterator[tuple[str, HeadOptions]]:
        """Yield each axis with its points, from small to large."""
        shared = {"configs": self.configs, "heads": self.heads, "classes": self.classes, "rounds": self.rounds}
        shared |= {"seconds": self.seconds, "device": self.device, "reference": self.reference}
        at = HeadOptions(
            **shared,
            memory=self.memory,
            seed=self.seed,
            truths=(self.at_truths,),
            images=self.at_images,
            size=self.at_size,
        )
        for axis in self.axes:
            if axis == "truths":
                yield from ((axis, replace(at, truths=(value,))) for value in sorted(self.truths))
            elif axis == "images":
                yield from ((axis, replace(at, images=value)) for value in sorted(self.images))
            else:
                yield from ((axis, replace(at, size=tuple(value))) for value in sorted(self.sizes, key=area))


def area(size: Size) -> int:
    """Return the number of pixels."""
    return size[0] * size[1]


def count_scaling(options: ScalingOptions) -> int:
    """Return how often ``advance`` is called."""
    return len(options.heads) * sum(1 for _ in options.points())


def measure_scaling(options: ScalingOptions, advance: Advance = lambda what: None) -> dict:
    """Measure losses and their gradients along the axes, in turn with mmdetection's.

    Args:
        options: what to measure.
        advance: called before each point.

    Returns:
        What is written as JSON: as of :func:`measure_heads`, with ``axis`` and ``value`` in the rows, and ``skipped``
        or ``failed``, which say why mmdetection's head was not measured where it could have been.
    """
    for _, point in options.points():
        point.check()
    rows = []
    for head in options.heads:
        rows += _measure_head(head, options, advance)
    return {"kind": "scaling", "machine": machine.describe(options.device), "options": asdict(options), "rows": rows}


def _measure_head(head: str, options: ScalingOptions, advance: Advance) -> list[dict]:
    rows: list[dict] = []
    for axis, point in options.points():
        value = {"truths": point.truths[0], "images": point.images, "size": area(point.size)}[axis]
        row = {"head": head, "axis": axis, "value": value, "truths": point.truths[0], "images": point.images}
        row |= {"size": list(point.size), "stage": STAGE}
        advance(f"{head}, {axis} {value}")
        before = [one for one in rows if one["axis"] == axis]
        reason = reason_to_skip(before, value, options) if options.reference else None
        cfg = head_config(point.path(head), options.classes)
        sides = prepare(cfg, replace(point, reference=options.reference and reason is None), point.truths[0])
        if reason is not None:
            row["skipped"] = reason
        rows.append(row | measure_calls(_calls(sides), sides, point, warmups=1))
    return rows


def reason_to_skip(before: Sequence[dict], value: float, options: ScalingOptions) -> str | None:
    """Return why mmdetection's head is not to be measured at a value of an axis, or None.

    Args:
        before: rows of the smaller values.
        value: along the axis.
        options: with the limit.
    """
    if before and "skipped" in before[-1]:
        return before[-1]["skipped"]
    measured = [row for row in before if THEIRS in row]
    if not measured:
        return None
    last = measured[-1]
    seconds = last[THEIRS]["min_ms"] / 1e3
    if seconds > options.limit:
        return f"{seconds:.1f} s at {value_name(last)}"
    growth = value / last["value"]
    if seconds * growth > PATIENCE * options.limit:
        return f"it would take about {seconds * growth:.0f} s"
    needed = (last[THEIRS]["peak_mb"] or 0) * growth
    free = free_megabytes(options.device)
    return f"it would need about {needed:.0f} MB of {free:.0f}" if needed > SPARE * free else None


def free_megabytes(device: str) -> float:
    """Return how much memory can be had."""
    if device != "cpu":
        return torch.cuda.mem_get_info()[0] / 1e6
    try:
        with open("/proc/meminfo", encoding="utf-8") as file:
            lines = dict(line.split(":") for line in file)
        return int(lines["MemAvailable"].split()[0]) / 1e3
    except (OSError, KeyError):
        return float("inf")


def _calls(sides: dict[str, Side]) -> dict:
    return {name: side.loss_backward for name, side in sides.items() if name in (OURS, THEIRS)}
