"""The figure of assigners' statistics: positives by size, objects without, levels, classes."""

from __future__ import annotations

import math
import os

import numpy as np

from densehead.analysis.statistics import SIZE_EDGES, AssignmentStatistics, ColumnStatistics, ratio
from densehead.visualization.figures import LINES, as_written, line_style, new_figure, save_png, tidy

MARKERS = "os^Dv<>"
MOST_CLASSES = 20
FEW_COLUMNS = 3
# bins of size with fewer objects, or a smaller share of them, are left out: their means say little
FEW_OBJECTS, SMALL_SHARE = 10, 0.001


def draw_statistics(statistics: AssignmentStatistics, out_file: str | os.PathLike) -> None:
    """Draw all columns into one figure of four panels, a PNG, with one legend."""
    figure = new_figure(11, 8.2)
    by_size, missed, by_level, by_class = figure.subplots(2, 2).ravel()
    columns = list(statistics.columns.values())
    handles = _positives_by_size(by_size, columns)
    _missed_by_size(missed, columns)
    _share_of_levels(by_level, columns)
    _positives_by_class(by_class, statistics)
    rows = math.ceil(len(columns) / 4)
    per_row = math.ceil(len(columns) / rows)
    figure.legend(
        handles, [*map(as_written, statistics.columns)], loc="lower center", ncol=per_row, frameon=False, fontsize=10
    )
    figure.tight_layout(rect=(0, 0.012 + 0.028 * rows, 1, 1), h_pad=2, w_pad=2)
    save_png(figure, out_file)


def look(index: int) -> dict:
    """Return colour, line and marker of a column."""
    marker = MARKERS[index % len(MARKERS)]
    return {**line_style(index), "marker": marker, "markersize": 4.5, "linewidth": 1.6}


def _positives_by_size(axis, columns: list[ColumnStatistics]) -> list:
    """Means over sizes, with the band between the outer quartiles where few columns share it; return the lines."""
    handles = []
    for index, one in enumerate(columns):
        shown = _shown(one)
        handles += axis.plot(_places(shown), ratio(one.level_positives.sum(1), one.size_objects)[shown], **look(index))
        if len(columns) <= FEW_COLUMNS:
            low, _, high = one.quartiles(of_sizes=True)[shown].T
            axis.fill_between(_places(shown), low, high, color=look(index)["color"], alpha=0.13, linewidth=0)
    band = "; band: the middle half" if len(columns) <= FEW_COLUMNS else ""
    _finish_sizes(axis, f"positives of an object (mean{band})", columns)
    top = max(axis.get_ylim()[1], 1)
    if top > 30:
        axis.set_yscale("symlog", linthresh=1)
        ticks = [value for power in range(5) for value in (10**power, 3 * 10**power) if value < 1.2 * top]
        axis.set_yticks([0, *ticks], [f"{value:g}" for value in (0, *ticks)])
        axis.yaxis.minorticks_off()
    axis.set_ylim(bottom=0)
    return handles


def _missed_by_size(axis, columns: list[ColumnStatistics]) -> None:
    for index, one in enumerate(columns):
        shown = _shown(one)
        axis.plot(_places(shown), 100 * ratio(one.histogram[:, 0], one.size_objects)[shown], **look(index))
    _finish_sizes(axis, "objects without a positive (%)", columns)
    axis.set_ylim(0, max(axis.get_ylim()[1], 1))


def _share_of_levels(axis, columns: list[ColumnStatistics]) -> None:
    strides = sorted({stride for one in columns for stride in one.strides.tolist()})
    width = 0.8 / len(columns)
    for index, one in enumerate(columns):
        places = np.searchsorted(strides, one.strides) + (index - (len(columns) - 1) / 2) * width
        shares = 100 * ratio(one.level_positives.sum(0), one.positives)
        hatch = ("", "///", "...")[index // len(LINES) % 3]
        axis.bar(places, shares, 0.9 * width, color=look(index)["color"], hatch=hatch, edgecolor="white", linewidth=0)
    axis.set_xticks(range(len(strides)), [f"{stride:g}" for stride in strides])
    axis.set_xlabel("stride of the level (pixels)")
    _finish(axis, "share of the positives (%)")


def _positives_by_class(axis, statistics: AssignmentStatistics) -> None:
    columns = list(statistics.columns.values())
    objects = np.max([one.class_objects for one in columns], 0)
    shown = np.argsort(-objects, kind="stable")[:MOST_CLASSES]
    shown = shown[objects[shown] > 0]
    rows = np.arange(len(shown))
    for index, one in enumerate(columns):
        dot = look(index) | {"linestyle": "none", "markersize": 6}
        axis.plot(ratio(one.class_positives, one.class_objects)[shown], rows, **dot)
    names = [f"{as_written(_short(statistics.classes[index]))} ({objects[index]:,})" for index in shown]
    axis.set_yticks(rows, names, fontsize=9 if len(rows) <= 12 else 7)
    axis.set_ylim(max(len(rows), 1) - 0.5, -0.5)
    axis.set_xlim(left=0)
    some = f", {MOST_CLASSES} classes of most objects" if (objects > 0).sum() > MOST_CLASSES else ", by class"
    axis.set_xlabel("positives of an object (mean)")
    _finish(axis, f"positives of an object (mean){some}")


def _shown(one: ColumnStatistics) -> np.ndarray:
    """Indices of the bins that have enough objects to say something."""
    is_shown = one.size_objects >= max(FEW_OBJECTS, SMALL_SHARE * one.objects)
    return np.flatnonzero(is_shown if is_shown.any() else one.size_objects > 0)


def _places(bins: np.ndarray) -> np.ndarray:
    """Where bins stand on the axis: at the middles of their octaves, the outermost at their one edge."""
    low, high = SIZE_EDGES[:-1].copy(), SIZE_EDGES[1:].copy()
    low[0], high[-1] = high[0] / math.sqrt(2), low[-1] * math.sqrt(2)
    return np.sqrt(low * high)[bins]


def _finish_sizes(axis, title: str, columns: list[ColumnStatistics]) -> None:
    from matplotlib.ticker import NullLocator

    shown = np.unique(np.concatenate([_shown(one) for one in columns]))
    axis.set_xscale("log", base=2)
    places = _places(shown) if len(shown) else np.array([4.0, 1024.0])
    low, high = places[0] / math.sqrt(2), places[-1] * math.sqrt(2)
    axis.set_xlim(low, high)
    ticks = [2**power for power in range(2, 11) if low <= 2**power <= high]
    axis.set_xticks(ticks, [str(tick) for tick in ticks])
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xlabel("size of the object (root of its area, pixels of the input)")
    _finish(axis, title)


def _finish(axis, title: str) -> None:
    axis.set_title(title, fontsize=11, loc="left")
    tidy(axis)


def _short(name: str) -> str:
    return name if len(name) <= 18 else f"{name[:17]}…"
