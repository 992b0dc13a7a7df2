"""Several trainings side by side: the same numbers of all of them, one panel a number."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from densehead.arguments import near
from densehead.visualization.figures import NOTE, as_written, line_style, new_figure, save_png
from densehead.visualization.plots import AVERAGE_PRECISION, LEARNING_RATE, LOSSES, set_scales
from densehead.visualization.scalars import Source, loss_names, metric_names, split_records, step_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

NOT_DRAWN = ("epoch", "iter", "step")
COLUMNS = 3


@dataclass(frozen=True)
class Run:
    """What a training has logged.

    Attributes:
        name: in the legend.
        train: records of the training, an iteration each.
        val: records of its validations, an epoch (or iteration) each.
    """

    name: str
    train: Sequence[Mapping[str, Any]]
    val: Sequence[Mapping[str, Any]]

    @classmethod
    def of(cls, name: str, records: Sequence[Mapping[str, Any]]) -> Run:
        """Make a run of all its records, see :func:`~densehead.visualization.scalars.read_scalars`."""
        return cls(name, *split_records(records))

    @property
    def keys(self) -> list[str]:
        """Names of all numbers, those of the training first."""
        names = dict.fromkeys(key for record in (*self.train, *self.val) for key in record if key not in NOT_DRAWN)
        return list(names)

    def is_metric(self, key: str) -> bool:
        """Tell whether a number is one of the validations (which log their time too, as the training does)."""
        return any(key in record for record in self.val) and not any(key in record for record in self.train)

    def series(self, key: str) -> tuple[np.ndarray, np.ndarray]:
        """Return (n,) steps and (n,) values of a number; none where the run has not logged it."""
        records = self.val if self.is_metric(key) else self.train
        points = [(step_of(record), float(record[key])) for record in records if key in record]
        steps, values = np.array(points, dtype=np.float64).reshape(-1, 2).T
        return steps, values


def choose_keys(runs: Sequence[Run], patterns: Sequence[str] | None = None) -> list[str]:
    """Return the names of what is to be compared.

    Args:
        runs: one or more.
        patterns: names, whole or behind their ``/`` (``bbox_mAP``), or shell patterns (``loss*``); if None the losses
            that all runs have, the usual metrics and the learning rate.

    Raises:
        ValueError: a pattern that no run has a number for, or runs without any number.
    """
    known = list(dict.fromkeys(key for run in runs for key in run.keys))
    if not known:
        raise ValueError(f"no numbers have been logged in {', '.join(run.name for run in runs)}")
    if patterns is None:
        shared = [key for key in loss_names(runs[0].train) if all(key in run.keys for run in runs)]
        metrics = metric_names([record for run in runs for record in run.val])
        return [*shared, *metrics, *(["lr"] if "lr" in known else [])] or known
    chosen: list[str] = []
    for pattern in patterns:
        found = [key for key in known if _fits(key, pattern)]
        if not found:
            raise ValueError(
                f"--keys {pattern}: no run has logged it.{near(pattern, known)} There are {', '.join(known)}"
            )
        chosen += found
    return list(dict.fromkeys(chosen))


def smoothed(key: str, values: np.ndarray, window: int) -> np.ndarray:
    """Return the values (n,) of a number of a training averaged over a window; the learning rate as it is."""
    return values if window == 1 or key == "lr" else running_mean(values, window)


def running_mean(values: np.ndarray, window: int) -> np.ndarray:
    """Return (n,) means of the finite ones among the ``window`` (an odd number) values around each; NaN without one.

    Towards the ends the window narrows on both sides, so that a slope stays one.
    """
    is_finite = np.isfinite(values)
    totals, counts = (np.cumsum(np.append(0, one)) for one in (np.where(is_finite, values, 0), is_finite))
    place = np.arange(len(values))
    reach = np.minimum(window // 2, np.minimum(place, place[::-1]))
    begin, end = place - reach, place + reach + 1
    count = counts[end] - counts[begin]
    return np.divide(totals[end] - totals[begin], count, out=np.full(len(values), math.nan), where=count > 0)


def compare_runs(runs: Sequence[Run], keys: Sequence[str], out_file: Source, *, smooth: int = 1) -> Path:
    """Draw the numbers of several runs, one panel a number, the line of a run alike in all of them.

    Args:
        runs: one or more.
        keys: of :func:`choose_keys`.
        out_file: a PNG; its folder is made if there is none.
        smooth: how many logged values of the training are averaged, before and after each; the values themselves are
            faint then. The learning rate and metrics of validations are drawn as they are.

    Raises:
        ValueError: ``smooth`` below 1.
    """
    if smooth < 1:
        raise ValueError(f"smooth must be at least 1 (a number of logged values), but got {smooth}")
    columns = min(COLUMNS, len(keys))
    rows = math.ceil(len(keys) / columns)
    legend_columns = max(1, int(4.6 * columns / (0.9 + 0.085 * max(len(run.name) for run in runs))))
    bottom = 0.35 + 0.22 * math.ceil(len(runs) / legend_columns)
    width, height = 4.6 * columns, 3.5 * rows + bottom
    figure = new_figure(width, height)
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for axis, key in zip(axes, keys, strict=False):
        _draw_key(axis, key, runs, smooth)
    for axis in axes[len(keys) :]:
        axis.set_visible(False)
    figure.legend(
        handles=[_line(index, run.name) for index, run in enumerate(runs)],
        loc="lower center",
        ncol=legend_columns,
        frameon=False,
        fontsize=10,
    )
    figure.subplots_adjust(
        left=0.6 / width,
        right=1 - 0.2 / width,
        top=1 - 0.5 / height,
        bottom=(bottom + 0.45) / height,
        wspace=0.22,
        hspace=0.42,
    )
    return save_png(figure, out_file)


def _draw_key(axis: Axes, key: str, runs: Sequence[Run], smooth: int) -> None:
    values_drawn, broken = [], []
    is_metric = any(run.is_metric(key) for run in runs)
    for index, run in enumerate(runs):
        steps, values = run.series(key)
        if not len(steps):
            continue
        count = int((~np.isfinite(values)).sum())
        if count:
            broken.append(f"{run.name} {count} times")
        undefined = is_metric & (values < 0)  # COCO's -1
        values = np.where(np.isfinite(values) & ~undefined, values, math.nan)
        style = line_style(index)
        if smooth > 1 and not is_metric:
            axis.plot(steps, values, linewidth=0.8, alpha=0.3, **style)
            values = smoothed(key, values, smooth)
        marker = "o" if len(steps) <= 30 else None
        axis.plot(steps, values, label=as_written(run.name), linewidth=1.6, marker=marker, markersize=3.5, **style)
        values_drawn.append(values)
    axis.set_title(as_written(key), fontsize=11, loc="left", pad=18 if broken else 6)
    note = as_written(f"not finite: {', '.join(broken)}") if broken else ""
    axis.text(0, 1.02, note, transform=axis.transAxes, fontsize=8, color=NOTE)
    by_epoch = is_metric and any("epoch" in record for run in runs for record in run.train)
    axis.set_xlabel("epoch" if by_epoch else "iteration")
    drawn = np.concatenate(values_drawn)
    if is_metric and not (drawn > 1).any():
        set_scales(axis, AVERAGE_PRECISION, drawn)
    else:
        set_scales(axis, LEARNING_RATE if key == "lr" else LOSSES if "loss" in key else key, drawn)


def _line(index: int, name: str) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], linewidth=1.6, label=as_written(name), **line_style(index))


def _fits(key: str, pattern: str) -> bool:
    return fnmatch.fnmatchcase(key, pattern) or fnmatch.fnmatchcase(key.rpartition("/")[2], pattern)
