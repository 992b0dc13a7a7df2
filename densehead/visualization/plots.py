"""What is left of a training to look at: its curves, and a sheet of pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from densehead.visualization.drawing import Style, with_caption

#: Colours that can be told apart on white with any colour vision (Okabe and Ito, 2008), the darker ones first.
LINES = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
#: Pictures drawn in this style stay legible in a sheet of two columns.
SHEET_STYLE = Style(min_side=256, max_side=420)
SHEET_GAP = 24
USUAL_METRICS = ("bbox_mAP", "bbox_mAP_50", "mAP", "AP50")

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

Source = str | PathLike


def read_scalars(paths: Source | Sequence[Source]) -> list[dict[str, Any]]:
    """Read what mmengine's ``LocalVisBackend`` writes: ``vis_data/scalars.json``, one JSON object a line.

    Args:
        paths: a file, or those of a run and its resumptions in the order in which they ran.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: a line is no JSON object (a last one cut off by a kill is passed over).
    """
    records = []
    for path in [paths] if isinstance(paths, (str, PathLike)) else paths:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
        for number, line in enumerate(lines, 1):
            if not line.strip():
                continue
            try:
                records.append(json.loads(line))
            except json.JSONDecodeError as error:
                if number < len(lines):
                    raise ValueError(f"{path}, line {number}: must be a JSON object, but {error}") from error
    return records


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
    train = _superseded([record for record in records if _loss_names([record]) or "lr" in record])
    val = _superseded([record for record in records if any("/" in name for name in record)])
    by_epoch = any("epoch" in record for record in train) or not train
    panels = [
        (LOSSES, _loss_names(train), train, "iteration"),
        (LEARNING_RATE, ["lr"] if any("lr" in record for record in train) else [], train, "iteration"),
        (AVERAGE_PRECISION, _metric_names(val), val, "epoch" if by_epoch else "iteration"),
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


def _step(record: Mapping[str, Any]) -> int:
    return record.get("step", record.get("iter", 0))


def _superseded(records: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Drop what a later record of the same or an earlier step replaces."""
    kept: list[Mapping[str, Any]] = []
    for record in records:
        while kept and _step(kept[-1]) >= _step(record):
            kept.pop()
        kept.append(record)
    return kept


def _loss_names(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of losses, the sum first."""
    names = dict.fromkeys(name for record in records for name in record if "loss" in name and "/" not in name)
    return sorted(names, key=lambda name: name != "loss")


def _metric_names(records: Sequence[Mapping[str, Any]]) -> list[str]:
    """Names of the usual metrics; of the first few others where there are none of those."""
    names = list(dict.fromkeys(name for record in records for name in record if "/" in name))
    usual = [name for name in names if name.rpartition("/")[2] in USUAL_METRICS]
    return usual or names[:4]


def _draw_panels(panels: Sequence[tuple], out_file: Path, title: str | None) -> Path:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = min(len(panels), PANELS_IN_ROW)
    down = math.ceil(len(panels) / across)
    width, height = 4.6 * across, 3.6 * down + 0.7
    figure = Figure(figsize=(width, height), dpi=120)
    FigureCanvasAgg(figure)
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
        figure.suptitle(title, fontsize=12)
    out_file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out_file, format="png")
    return out_file


def _draw_panel(
    axis, name: str, series: Sequence[str], records: Sequence[Mapping], unit: str, *, first_color: int
) -> list:
    """Draw the series of one panel; return the lines, for the legend."""
    lines, broken = [], {}
    for index, key in enumerate(series):
        points = [(_step(record), float(record[key])) for record in records if key in record]
        steps, values = np.array(points).T
        broken[key] = int((~np.isfinite(values)).sum())
        undefined = values < 0 if name == AVERAGE_PRECISION else False
        values = np.where(np.isfinite(values) & ~np.asarray(undefined), values, math.nan)
        turn, color = divmod(first_color + index, len(LINES))
        look = {"color": LINES[color], "linestyle": ("-", "--", ":")[turn % 3], "linewidth": 1.6}
        lines += axis.plot(steps, values, label=key, marker="o" if len(steps) <= 30 else None, markersize=3.5, **look)
    note = ", ".join(f"{key} {count} times" for key, count in broken.items() if count)
    note = f"not finite: {note}" if note else _best(lines[0], unit) if name == AVERAGE_PRECISION else ""
    axis.set_title(name, fontsize=11, loc="left", pad=18 if note else 6)
    axis.text(0, 1.02, note, transform=axis.transAxes, fontsize=8, color="#555555")
    axis.set_xlabel(unit)
    _finish(axis, name, np.concatenate([line.get_ydata() for line in lines]))
    if len(records) == 1:
        axis.set_xlim(_step(records[0]) - 0.5, _step(records[0]) + 0.5)
    return lines


def _best(line, unit: str) -> str:
    """Say where a metric was best."""
    steps, values = line.get_data()
    if np.isnan(values).all():
        return "undefined"
    best = int(np.nanargmax(values))
    return f"best {line.get_label()}: {values[best]:.3f} ({unit} {steps[best]:g})"


def _finish(axis, name: str, values: np.ndarray) -> None:
    """Set scales and ticks to what the panel shows."""
    from matplotlib.ticker import MaxNLocator

    values = values[np.isfinite(values)]
    axis.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, min_n_ticks=1))
    axis.grid(color="#dddddd", linewidth=0.7)
    axis.spines[["top", "right"]].set_visible(False)
    if name in (LOSSES, GRADIENT) and values.size and values.min() > 0 and values.max() > 30 * values.min():
        axis.set_yscale("log")
    elif name == LEARNING_RATE:
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.set_ylim(bottom=0)
    elif name in (POSITIVES, MISSED):
        axis.set_ylim(0, max(axis.get_ylim()[1], LEAST_SHARE))
    elif name == AVERAGE_PRECISION:
        axis.set_ylim(0, 1 if values.size and values.max() > 0.5 else None)
