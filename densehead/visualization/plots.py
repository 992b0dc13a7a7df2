"""What is left of a training to look at: its curves, and a sheet of pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from densehead.visualization.drawing import Style, with_caption
from densehead.visualization.figures import NOTE, as_written, line_style, new_figure, save_png, tidy
from densehead.visualization.scalars import Source, loss_names, metric_names, read_scalars, split_records, step_of

#: Pictures drawn in this style stay legible in a sheet of two columns.
SHEET_STYLE = Style(min_side=256, max_side=420)
SHEET_GAP = 24

LOSSES, LEARNING_RATE, AVERAGE_PRECISION = "losses", "learning rate", "average precision"
POSITIVES, MISSED, GRADIENT = "positives of an object", "share of objects without any", "norm of the gradient"
#: What is logged of assignments and gradients, by panel.
TRAINED = {
    POSITIVES: ("pos_per_object", "pos_small", "pos_medium", "pos_large"),
    MISSED: ("missed",),
    GRADIENT: ("grad_norm",),
}
PANELS_IN_ROW = 3
LEAST_SHARE = 0.02  # of the axis of objects without any: one in a thousand should not look like many


def training_curves(
    scalars: Source | Sequence[Source] | Sequence[Mapping[str, Any]], out_file: Source, *, title: str | None = None
) -> Path:
    """Draw losses, learning rate and average precision of a training into a PNG; and, where they are logged, positives
    of an object, the share of objects without any and the norm of the gradient.

    Where a run was resumed from an earlier step, what it logs replaces what the stopped run had logged from there on.
    Values that are NaN or infinite leave a gap in their line and are counted above it.

    Args:
        scalars: the file (or files, see :func:`read_scalars`) that mmengine logged to, or its records.
        out_file: the picture; its folder is made if there is none.
        title: above all.

    Returns:
        The path of the picture.

    Raises:
        ValueError: there is nothing to draw.
    """
    records = _records(scalars)
    train, val = split_records(records)
    by_epoch = any("epoch" in record for record in train) or not train
    panels = [
        (LOSSES, loss_names(train), train, "iteration"),
        (LEARNING_RATE, ["lr"] if any("lr" in record for record in train) else [], train, "iteration"),
        (AVERAGE_PRECISION, metric_names(val), val, "epoch" if by_epoch else "iteration"),
    ]
    logged = {name for record in train for name in record}
    for panel, names in TRAINED.items():
        panels.append((panel, [name for name in names if name in logged], train, "iteration"))
    panels = [panel for panel in panels if panel[1]]
    if not panels:
        raise ValueError(f"no losses, learning rate or metrics to draw among {len(records)} records of {scalars!r}")
    return _draw_panels(panels, Path(out_file), title)


def contact_sheet(
    images: Sequence[np.ndarray | Source],
    out_file: Source,
    columns: int = 2,
    *,
    titles: Sequence[str] | None = None,
    cell_width: int | None = None,
) -> Path:
    """Put pictures on one sheet, row by row.

    Args:
        images: (H, W, 3) RGB uint8 arrays, or files; best drawn in :data:`SHEET_STYLE`.
        out_file: the sheet; its folder is made if there is none.
        columns: number of pictures in a row.
        titles: one line above each picture.
        cell_width: wider pictures are reduced to it, pixels; the widest picture's width if None.

    Returns:
        The path of the sheet.

    Raises:
        ValueError: no pictures, or not as many titles.
    """
    if not len(images) or columns < 1 or (titles is not None and len(titles) != len(images)):
        raise ValueError(
            "contact_sheet needs one picture or more, columns >= 1 and as many titles as pictures (or None), but got "
            f"{len(images)} pictures, columns={columns} and {'no' if titles is None else len(titles)} titles"
        )
    pictures = [np.asarray(one if isinstance(one, np.ndarray) else Image.open(one).convert("RGB")) for one in images]
    width = cell_width or max(picture.shape[1] for picture in pictures)
    pictures = [_reduced(picture, width) for picture in pictures]
    if titles is not None:
        pictures = [with_caption(one, title, SHEET_STYLE) for one, title in zip(pictures, titles, strict=True)]
    columns = min(columns, len(pictures))
    rows = [pictures[first : first + columns] for first in range(0, len(pictures), columns)]
    heights = [max(picture.shape[0] for picture in row) for row in rows]
    sheet = Image.new(
        "RGB", (columns * (width + SHEET_GAP) + SHEET_GAP, sum(heights) + (len(rows) + 1) * SHEET_GAP), (255, 255, 255)
    )
    top = SHEET_GAP
    for row, height in zip(rows, heights, strict=True):
        for column, picture in enumerate(row):
            sheet.paste(Image.fromarray(picture), (SHEET_GAP + column * (width + SHEET_GAP), top))
        top += height + SHEET_GAP
    out_file = Path(out_file)
    out_file.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(out_file)
    return out_file


def _reduced(picture: np.ndarray, width: int) -> np.ndarray:
    if picture.shape[1] <= width:
        return picture
    height = max(1, round(picture.shape[0] * width / picture.shape[1]))
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.LANCZOS))


def _records(scalars: Any) -> list[Mapping[str, Any]]:
    if isinstance(scalars, (str, PathLike)) or (scalars and isinstance(scalars[0], (str, PathLike))):
        return read_scalars(scalars)
    return list(scalars)


def _draw_panels(panels: Sequence[tuple], out_file: Path, title: str | None) -> Path:
    across = min(len(panels), PANELS_IN_ROW)
    down = math.ceil(len(panels) / across)
    width, height = 4.6 * across, 3.6 * down + 0.7
    figure = new_figure(width, height)
    axes = figure.subplots(down, across, squeeze=False).ravel()
    handles: list = []
    for axis, (name, series, records, unit) in zip(axes, panels, strict=False):
        handles += _draw_panel(axis, name, series, records, unit, first_color=len(handles))
    for axis in axes[len(panels) :]:
        axis.remove()
    columns = max(1, int(width / 1.9))
    rows = math.ceil(len(handles) / columns)
    figure.legend(handles=handles, loc="lower center", ncol=columns, frameon=False, fontsize=9)
    figure.subplots_adjust(
        left=0.6 / width,
        right=1 - 0.2 / width,
        top=1 - (0.85 if title else 0.55) / height,
        bottom=(0.75 + 0.2 * rows) / height,
        wspace=0.25,
        hspace=0.45,
    )
    if title:
        figure.suptitle(as_written(title), fontsize=12)
    return save_png(figure, out_file)


def _draw_panel(
    axis, name: str, series: Sequence[str], records: Sequence[Mapping], unit: str, *, first_color: int
) -> list:
    """Draw the series of one panel; return the lines, for the legend."""
    lines, broken = [], {}
    for index, key in enumerate(series):
        points = [(step_of(record), float(record[key])) for record in records if key in record]
        steps, values = np.array(points).T
        broken[key] = int((~np.isfinite(values)).sum())
        undefined = values < 0 if name == AVERAGE_PRECISION else False
        values = np.where(np.isfinite(values) & ~np.asarray(undefined), values, math.nan)
        look = {"marker": "o" if len(steps) <= 30 else None, "markersize": 3.5, "linewidth": 1.6}
        lines += axis.plot(steps, values, label=as_written(key), **look, **line_style(first_color + index))
    note = ", ".join(f"{key} {count} times" for key, count in broken.items() if count)
    note = f"not finite: {note}" if note else _best(lines[0], unit) if name == AVERAGE_PRECISION else ""
    axis.set_title(as_written(name), fontsize=11, loc="left", pad=18 if note else 6)
    axis.text(0, 1.02, as_written(note), transform=axis.transAxes, fontsize=8, color=NOTE)
    axis.set_xlabel(unit)
    set_scales(axis, name, np.concatenate([line.get_ydata() for line in lines]))
    if len(records) == 1:
        axis.set_xlim(step_of(records[0]) - 0.5, step_of(records[0]) + 0.5)
    return lines


def _best(line, unit: str) -> str:
    """Say where a metric was best."""
    steps, values = line.get_data()
    if np.isnan(values).all():
        return "undefined"
    best = int(np.nanargmax(values))
    return f"best {line.get_label()}: {values[best]:.3f} ({unit} {steps[best]:g})"


def set_scales(axis, kind: str, values: np.ndarray) -> None:
    """Set scales and ticks of a panel to what it shows: :data:`LOSSES`, and so on, or anything else."""
    from matplotlib.ticker import MaxNLocator

    values = values[np.isfinite(values)]
    axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    tidy(axis)
    if kind in (LOSSES, GRADIENT) and values.size and values.min() > 0 and values.max() > 30 * values.min():
        axis.set_yscale("log")
    elif kind == LEARNING_RATE:
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_ylim(bottom=0)
    elif kind in (POSITIVES, MISSED):
        axis.set_ylim(0, max(axis.get_ylim()[1], LEAST_SHARE))
    elif kind == AVERAGE_PRECISION:
        axis.set_ylim(0, 1 if values.size and values.max() > 0.5 else None)
