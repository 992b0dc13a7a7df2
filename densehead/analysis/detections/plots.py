"""A report on detections as pictures: curves, confusions, errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from densehead.analysis.detections import curves as along
from densehead.analysis.detections.breakdown import MEANING
from densehead.analysis.detections.confusion import COLUMN_NAME, ROW_NAMES
from densehead.analysis.detections.errors import KINDS
from densehead.analysis.detections.report import DetectionReport
from densehead.visualization.figures import FAINT, LINES, NOTE, as_written, line_style, new_figure, save_png, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NAMED_CLASSES = 12  # of which each line has a style of its own
NAMED_WORST = 6  # that are named where there are more classes
SHOWN_CLASSES = 16  # whose errors are drawn
NUMBERED_CLASSES = 22  # whose confusions are written as numbers
KIND_COLORS = ("#0072b2", "#d55e00", "#cc79a7", "#e69f00", "#009e73", "#000000")
#: The area above the stricter curve, up to the more lenient one.
FORGIVING_COLORS = {
    "C75": "#ffffff",
    "C50": "#56b4e9",
    "Loc": "#0072b2",
    "Sim": "#d55e00",
    "Oth": "#e69f00",
    "BG": "#cc79a7",
    "FN": "#dddddd",
}


def draw_curves(report: DetectionReport, out_file: Path) -> Path:
    """Draw precision against recall, and precision, recall and F1 against the score, of each class and of their mean.

    Where there are many classes the worst ones are named, and the others are faint.
    """
    figure = new_figure(11.2, 7.6)
    axes = figure.subplots(2, 2)
    _draw_lines(axes[0, 0], along.RECALLS, [curve.precision_at_recalls for curve in report.curves], report)
    by_score = np.stack([curve.at_scores(along.SCORES) for curve in report.curves])  # (C, 3, T)
    places = zip((axes[1, 0], axes[1, 1], axes[0, 1]), along.mean_at_scores(report.curves), strict=True)
    for kind, (axis, mean) in enumerate(places):
        _draw_lines(axis, along.SCORES, by_score[:, kind], report, mean)
    _say(
        axes[0, 0], "precision against recall", "recall", f"IoU of {report.iou_thr:g} or more; mean of classes in black"
    )
    threshold = along.best_mean_threshold(report.curves)
    best = np.nanmax(along.mean_at_scores(report.curves)[2])
    _say(axes[0, 1], "F1", "lowest score", f"best mean F1 {best:.3f} with scores of {threshold:.3g} or more")
    axes[0, 1].axvline(threshold, color=NOTE, linewidth=1, linestyle="--")
    _say(axes[1, 0], "precision", "lowest score")
    _say(axes[1, 1], "recall", "lowest score")
    handles = axes[0, 0].get_legend_handles_labels()
    figure.legend(
        *handles,
        loc="center right",
        frameon=False,
        fontsize=9,
        title=f"AP{round(report.iou_thr * 100)}",
        alignment="left",
    )
    figure.subplots_adjust(left=0.05, right=0.845, top=0.93, bottom=0.07, wspace=0.16, hspace=0.36)
    return save_png(figure, out_file)


def draw_confusion(report: DetectionReport, out_file: Path) -> Path:
    """Draw the confusion matrix; each row in shares of its sum, with the counts where there is room for them."""
    matrix = report.confusion
    classes = len(report.classes)
    share = matrix / np.maximum(matrix.sum(1, keepdims=True), 1)
    side = float(np.clip(0.42 * classes + 1, 3.5, 12))  # of the matrix, inches
    longest = max(map(len, [*report.classes, *ROW_NAMES]))
    margin = 0.5 + 0.085 * longest
    figure = new_figure(side + margin + 1.3, side + margin + 0.5)
    width, height = figure.get_size_inches()
    axis = figure.add_axes((margin / width, margin / height, side / width, side / height))
    image = axis.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    if classes <= NUMBERED_CLASSES:
        size = float(np.clip(90 / classes, 6, 9))
        for row, column in zip(*np.nonzero(matrix), strict=True):
            ink = "white" if share[row, column] > 0.55 else "black"
            axis.text(column, row, str(matrix[row, column]), ha="center", va="center", fontsize=size, color=ink)
    size = float(np.clip(300 / classes, 6, 10))
    shown = range(0, classes, max(1, round(classes / 80)))
    axis.set_xticks(
        [*shown, classes],
        [*(as_written(report.classes[one]) for one in shown), COLUMN_NAME],
        rotation=90,
        fontsize=size,
    )
    axis.set_yticks(
        [*shown, classes, classes + 1], [*(as_written(report.classes[one]) for one in shown), *ROW_NAMES], fontsize=size
    )
    axis.axhline(classes - 0.5, color=NOTE, linewidth=1)
    axis.axvline(classes - 0.5, color=NOTE, linewidth=1)
    axis.set_xlabel("detected")
    axis.set_ylabel("true")
    axis.set_title(f"IoU >= {report.iou_thr:g}, score >= {report.score_thr:.3g}", loc="left", fontsize=11)
    bar = figure.add_axes(((margin + side + 0.2) / width, margin / height, 0.18 / width, side / height))
    figure.colorbar(image, cax=bar, label="share of the row")
    return save_png(figure, out_file)


def draw_errors(report: DetectionReport, out_file: Path) -> Path:
    """Draw what each kind of error costs and how often it is made, by class too, and COCO's forgiving curves."""
    figure = new_figure(15.6, 4.6)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.1, 1.15, 1.1))
    _draw_costs(left, report)
    _draw_kinds(middle, report)
    _draw_forgiving(right, report)
    figure.subplots_adjust(left=0.08, right=0.862, top=0.87, bottom=0.23, wspace=0.2)
    return save_png(figure, out_file)


def _draw_lines(
    axis: Axes, x: np.ndarray, lines: Sequence[np.ndarray], report: DetectionReport, mean: np.ndarray | None = None
) -> None:
    """Draw a line for each class that has objects, and their mean; every label tells the AP."""
    averages = {label: curve.average_precision for label, curve in enumerate(report.curves) if curve.num_gts}
    order = sorted(averages, key=lambda label: -averages[label])
    named = order if len(order) <= NAMED_CLASSES else order[-NAMED_WORST:]
    for label in order:
        if label not in named:
            others = f"{len(order) - len(named)} others" if label == order[0] else None
            axis.plot(x, lines[label], color=FAINT, linewidth=0.7, label=others)
    for number, label in enumerate(named):
        text = f"{averages[label]:.3f}  {as_written(report.classes[label])}"
        axis.plot(x, lines[label], linewidth=1.3, label=text, **line_style(number, skip_black=True))
    mean = np.mean([lines[label] for label in order], 0) if mean is None else mean
    axis.plot(x, mean, color=LINES[0], linewidth=2.6, label=f"{report.mean_average_precision:.3f}  mean")


def _say(axis: Axes, title: str, x_label: str, note: str = "") -> None:
    axis.set_title(title, loc="left", fontsize=11, pad=18 if note else 6)
    axis.text(0, 1.02, note, transform=axis.transAxes, fontsize=8, color=NOTE)
    axis.set_xlabel(x_label, fontsize=9)
    axis.set_xlim(0, 1)
    axis.set_ylim(0, 1.02)
    tidy(axis)


def _draw_costs(axis: Axes, report: DetectionReport) -> None:
    """Bars of the AP that goes to each kind of error."""
    rows = report.error_rows()
    places = [*range(len(KINDS)), *(len(KINDS) + 0.6 + place for place in range(len(rows) - len(KINDS)))]
    gains = [np.nan_to_num(row["gain"]) for row in rows]
    colors = [*KIND_COLORS, *[FAINT] * (len(rows) - len(KINDS))]
    bars = axis.barh(places, gains, color=colors, height=0.72)
    axis.bar_label(
        bars, [f"{gain:+.3f}  ({row['count']:,})" for gain, row in zip(gains, rows, strict=True)], padding=3, fontsize=8
    )
    axis.set_yticks(places, [row["kind"] for row in rows], fontsize=9)
    axis.invert_yaxis()
    axis.set_xlim(0, max(max(gains) * 1.55, 0.01))
    axis.set_title("what each error costs", loc="left", fontsize=11, pad=18)
    note = f"AP without it, upon {report.mean_average_precision:.3f}; in brackets how often it is made"
    axis.text(0, 1.02, note, transform=axis.transAxes, fontsize=8, color=NOTE)
    axis.set_xlabel("mean AP gained", fontsize=9)
    tidy(axis)
    axis.grid(visible=False, axis="y")


def _draw_kinds(axis: Axes, report: DetectionReport) -> None:
    """Of the classes that lose the most, the AP that goes to each kind of error, one bar upon the other."""
    gains = np.nan_to_num(np.stack([report.costs[kind].gain for kind in KINDS])).clip(min=0)  # (kinds, C)
    order = np.argsort(-gains.sum(0), kind="stable")
    counting = [label for label in order if report.curves[label].num_gts][:SHOWN_CLASSES]
    bottom = np.zeros(len(counting))
    for gain, color in zip(gains[:, counting], KIND_COLORS, strict=True):
        axis.bar(range(len(counting)), gain, bottom=bottom, color=color, width=0.75)
        bottom += gain
    names = [report.classes[label] for label in counting]
    is_long = sum(map(len, names)) > 45
    axis.set_xticks(range(len(counting)), [*map(as_written, names)], rotation=90 if is_long else 0, fontsize=9)
    every = len(counting) == sum(curve.num_gts > 0 for curve in report.curves)
    axis.set_title(
        "by class" if every else f"the {len(counting)} classes that lose most", loc="left", fontsize=11, pad=18
    )
    axis.text(
        0,
        1.02,
        "AP without each kind of error, in the colours on the left",
        transform=axis.transAxes,
        fontsize=8,
        color=NOTE,
    )
    axis.set_xlim(-0.6, max(len(counting), 4) - 0.4)
    axis.set_ylim(0, 1.05 * max(bottom.max(), 0.01))
    tidy(axis)
    axis.grid(visible=False, axis="x")


def _draw_forgiving(axis: Axes, report: DetectionReport) -> None:
    """COCO's areas: what precision gains where one kind of error after the other is forgiven."""
    below: Any = 0.0
    for name, values in report.forgiving.items():
        axis.fill_between(
            along.RECALLS,
            below,
            values,
            color=FORGIVING_COLORS[name],
            linewidth=0,
            label=f"{values.mean():.3f}  {name}: {MEANING[name]}",
        )
        axis.plot(along.RECALLS, values, color=LINES[0], linewidth=0.6)
        below = values
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5, frameon=False, reverse=True)
    _say(
        axis,
        "forgiving one error after the other",
        "recall",
        "mean precision of the classes, AP in the legend",
    )
