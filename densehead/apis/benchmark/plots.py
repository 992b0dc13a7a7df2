"""Measurements as pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from densehead.apis.benchmark.report import number
from densehead.apis.benchmark.sides import NAMES, OURS, THEIRS

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
        bars = axis.barh([index + shift for index in places], values, 0.4, color=COLOURS[name], label=name)
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
