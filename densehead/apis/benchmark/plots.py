"""Measurements as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import LogFormatter

from densehead.apis.benchmark.sides import NAMES, OURS, THEIRS
from densehead.apis.benchmark.tables import number

# Okabe and Ito's colours, which the colour-blind tell apart; they differ in lightness too
COLOURS = {OURS: "#0072b2", THEIRS: "#e69f00"}
STAGES = ("assign", "loss+backward", "predict")


def draw_heads(record: dict, path: Path) -> Path:
    """Draw the times of each stage and the memory of the losses as bars, by ground truths."""
    counts = list(dict.fromkeys(row["truths"] for row in record["rows"]))
    columns = [(stage, "median_ms", f"{stage}, ms") for stage in STAGES] + [
        ("loss+backward", "peak_mb", "loss+backward, peak MB")
    ]
    columns = [one for one in columns if _rows(record, one[0], one[1], counts)]
    figure = Figure(figsize=(3.9 * len(columns), 0.9 + 3.4 * len(counts)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(len(counts), len(columns), squeeze=False)
    for line, count in zip(axes, counts, strict=True):
        for axis, (stage, key, title) in zip(line, columns, strict=True):
            _bars(axis, _rows(record, stage, key, [count]), key)
            axis.set_title(f"{title}\n{count} ground truths an image", fontsize=10)
    handles, labels = axes[0][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    return _save(figure, path)


AXES = {"truths": "ground truths an image", "images": "images", "size": "pixels an image, million"}
UNITS = {"truths": 1, "images": 1, "size": 1e6}


def draw_scaling(record: dict, axis: str, path: Path) -> Path:
    """Draw time and memory of losses and gradients along an axis, of each head, on logarithmic scales."""
    rows = [row for row in record["rows"] if row["axis"] == axis]
    heads = list(dict.fromkeys(row["head"] for row in rows))
    figure = Figure(figsize=(max(2.5 * len(heads), 5), 5.6), layout="constrained")
    FigureCanvasAgg(figure)
    lines = figure.subplots(2, len(heads), squeeze=False, sharey="row", sharex=True)
    for column, head in enumerate(heads):
        mine = [row for row in rows if row["head"] == head]
        for line, key in zip(lines, ("median_ms", "peak_mb"), strict=True):
            _curves(line[column], mine, key, UNITS[axis])
        lines[0][column].set_title(NAMES.get(head, head), fontsize=11)
        lines[1][column].set_xlabel(AXES[axis], fontsize=9)
    lines[0][0].set_ylabel("loss + backward, ms")
    lines[1][0].set_ylabel("loss + backward, peak MB")
    handles = {text: handle for one in lines[0] for handle, text in zip(*one.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=2, frameon=False)
    return _save(figure, path)


def _curves(axis: Axes, rows: list[dict], key: str, unit: float) -> None:
    for name, marker in ((OURS, "o"), (THEIRS, "s")):
        points = [(row["value"] / unit, row[name][key]) for row in rows if row.get(name) and row[name][key] is not None]
        if points:
            axis.plot(*zip(*points, strict=True), color=COLOURS[name], marker=marker, markersize=4, label=name)
    axis.set_xscale("log")
    axis.set_yscale("log")
    axis.xaxis.set_major_formatter("{x:.2g}" if unit > 1 else "{x:g}")
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(LogFormatter())  # names ticks where there would be one or none
    axis.xaxis.set_minor_formatter("")
    if rows[0]["axis"] != "truths":  # few values, not in decades
        axis.set_xticks([row["value"] / unit for row in rows], minor=False)
        axis.set_xticks([], minor=True)
    axis.grid(which="major", alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)


def _rows(record: dict, stage: str, key: str, counts: Sequence[int]) -> list[dict]:
    return [
        row
        for row in record["rows"]
        if row["stage"] == stage and row["truths"] in counts and row[OURS].get(key) is not None
    ]


def _bars(axis: Axes, rows: list[dict], key: str) -> None:
    """Draw a pair of bars for each row, with their values, and by how much they differ."""
    for side, (name, shift) in enumerate(((OURS, -0.2), (THEIRS, 0.2))):
        places = [index for index, row in enumerate(rows) if row.get(name)]
        values = [rows[index][name][key] for index in places]
        heights = [index + shift if rows[index].get(THEIRS) else index for index in places]
        bars = axis.barh(heights, values, 0.4, color=COLOURS[name], label=name)
        texts = [number(value) for value in values]
        if side:
            texts = [
                f"{text} ({rows[index][name][key] / rows[index][OURS][key]:.1f}x)" if rows[index][OURS][key] else text
                for text, index in zip(texts, places, strict=True)
            ]
        axis.bar_label(bars, texts, padding=2, fontsize=8)
    axis.set_yticks(range(len(rows)), [NAMES.get(row["head"], row["head"]) for row in rows])
    axis.invert_yaxis()
    axis.set_xlim(0, axis.get_xlim()[1] * 1.3)  # room for the values
    axis.spines[["top", "right"]].set_visible(False)


def _save(figure: Figure, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    return path
