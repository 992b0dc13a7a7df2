"""The sheet of an image: photo, panels and legend put together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from densehead.analysis.records import AssignmentRecord
from densehead.analysis.scenes import Scene
from densehead.analysis.sheet.layout import GAP, MARGIN, Page
from densehead.analysis.sheet.legend import Legend
from densehead.analysis.sheet.marks import diameters, panel_marks
from densehead.analysis.sheet.panels import backdrop, class_name, draw_frames, draw_picture, draw_points, photo
from densehead.visualization.object_colors import object_colors

CELL_ROOM = 4.5  # pixels of the sheet for a cell of the finest level, as far as panels may grow for it
SMALLEST_PANEL, LARGEST_PANEL = 340, 640  # their longer side, pixels
LARGEST_IN_ROWS = 500  # where each record has a row of its own
SMALLEST_POINT = 3.2  # pixels of the sheet
SMALLEST_WIDTH = 460  # of a sheet, pixels: its legend needs them
LEGEND_BESIDE = 28  # width of the legend in font sizes, where it stands beside the photo
PAGE_RATIO = 2.2  # width to height of a sheet that is arranged freely
SHOWN_CLASSES = 5  # of those of the objects, in the caption of the photo
TIMES = "\u00d7"
PHOTO = "photo"


@dataclass(frozen=True)
class Panel:
    """One panel of a sheet.

    Attributes:
        name: label of its axis.
        caption: the line above it.
        record: of which it shows points; it is the photo if None.
        level: index of the level; all if None.
        title: bold, in the line above the caption.
        aside: at the right end of that line.
    """

    name: str
    caption: str
    record: AssignmentRecord | None = None
    level: int | None = None
    title: str = ""
    aside: str = ""


@dataclass(frozen=True)
class Row:
    """Panels side by side, below a title of their own if ``title`` is not empty."""

    panels: Sequence[Panel]
    title: str = ""
    facts: str = ""


def draw_sheet(scene: Scene, *, levels: bool = True, columns: int | None = None, panel_side: int | None = None) -> Any:
    """Draw the sheet of an image.

    It has the photo with its objects, then for each record a panel with the points of all levels and, with ``levels``,
    one for each level; and one legend.

    Args:
        scene: the image and what was assigned, of one record or more.
        levels: whether each level has a panel.
        columns: panels side by side, unless each record has a row of its own; as many as make a sheet in landscape if
            None.
        panel_side: longer side of the panels, pixels; by the cells of the finest level if None.

    Returns:
        A matplotlib ``Figure`` for ``savefig``. Its axes are labelled ``photo``, ``<title>/all``,
        ``<title>/<index of the level>`` and ``legend``; all but the last are in pixels of the image.
    """
    first = next(iter(scene.records.values()))
    rows = _rows(scene, levels, columns)
    in_rows = any(row.title for row in rows)
    size = _panel_size(scene.image, first.strides, panel_side, LARGEST_IN_ROWS if in_rows else LARGEST_PANEL)
    scale = size[0] / scene.image.shape[1]
    width = max(len(row.panels) for row in rows) * (size[0] + GAP) - GAP
    page = Page(max(width, SMALLEST_WIDTH) + 2 * MARGIN, font=int(np.clip(size[0] / 32, 11, 16)))
    legend = Legend(
        first.strides,
        diameters(first.strides, SMALLEST_POINT / scale) * scale,
        has_cells=levels,
        width=LEGEND_BESIDE * page.font if in_rows else page.width - 2 * MARGIN,
        font=page.font,
    )
    _place(page, rows, size, legend, beside=in_rows)
    figure, axes = page.figure()
    legend.draw(axes["legend"])
    _fill(axes, scene, [panel for row in rows for panel in row.panels], size)
    return figure


def full_weights(scene: Scene) -> dict[str, float]:
    """Return for each kind of weight the highest of the scene, with which points are opaque."""
    full: dict[str, float] = {}
    for record in scene.records.values():
        full[record.weight_name] = max(full.get(record.weight_name, 0.0), float(record.weight.max(initial=0.0)))
    return {name: highest or 1.0 for name, highest in full.items()}


def _fill(axes: dict[str, Any], scene: Scene, panels: Sequence[Panel], size: tuple[int, int]) -> None:
    """Draw what the panels show."""
    colors = object_colors(next(iter(scene.records.values())).boxes)
    full = full_weights(scene)
    dimmed = backdrop(scene.image, size)
    pixel = scene.image.shape[1] / size[0]
    for panel in panels:
        axis, record = axes[panel.name], panel.record
        draw_picture(axis, photo(scene, colors, size) if record is None else dimmed, scene.image.shape)
        if record is not None:
            draw_frames(axis, record, colors, level=panel.level, pixel=pixel)
            look = {"full_weight": full[record.weight_name], "smallest": SMALLEST_POINT * pixel}
            marks = panel_marks(record, colors, level=panel.level, **look)
            draw_points(axis, marks, cells=panel.level is not None)


def _panel_size(image: np.ndarray, strides: np.ndarray, side: int | None, largest: int) -> tuple[int, int]:
    """Width and height of the panels, pixels."""
    height, width = image.shape[:2]
    if side is None:
        side = np.clip(CELL_ROOM * max(height, width) / strides.min(), SMALLEST_PANEL, largest)
    scale = side / max(height, width)
    return max(1, round(width * scale)), max(1, round(height * scale))


def _rows(scene: Scene, levels: bool, columns: int | None) -> list[Row]:
    """The panels: a row for each record where their levels are to be compared, else as they fit."""
    photo_panel = Panel(PHOTO, _objects(scene), title=scene.name)
    full = full_weights(scene)
    if levels and len(scene.records) > 1:
        rows = [Row([photo_panel])]
        for title, record in scene.records.items():
            facts = f"{_counts(record)}; opacity: {_weight(record, full)}"
            rows.append(Row(_panels(title, record, levels), title, facts))
        return rows
    panels = [photo_panel]
    for title, record in scene.records.items():
        head, *others = _panels(title, record, levels)
        panels += [replace(head, title=title, aside=_weight(record, full), caption=_counts(record)), *others]
    columns = columns or _columns(len(panels), scene.image.shape)
    return [Row(panels[first : first + columns]) for first in range(0, len(panels), columns)]


def _panels(title: str, record: AssignmentRecord, levels: bool) -> list[Panel]:
    panels = [Panel(f"{title}/all", "all levels", record)]
    if levels:
        on_level = record.counts().sum(0)
        for level, stride in enumerate(record.strides):
            caption = f"stride {stride:g}: {_many(on_level[level], 'positive')}"
            panels.append(Panel(f"{title}/{level}", caption, record, level))
    return panels


def _columns(count: int, shape: tuple[int, ...]) -> int:
    """How many panels side by side make a sheet of about the ratio of a page, with few empty places."""
    wanted = math.sqrt(count * PAGE_RATIO * shape[0] / shape[1])
    choices = range(max(1, math.floor(wanted)), math.ceil(wanted) + 1)
    return min(min(choices, key=lambda columns: (-count % columns, abs(columns - wanted))), count)


def _objects(scene: Scene) -> str:
    """How many objects there are, and of which classes, the most frequent first."""
    labels = next(iter(scene.records.values())).labels
    found = sorted(zip(*np.unique(labels, return_counts=True), strict=True), key=lambda pair: -pair[1])
    names = [f"{count} {TIMES} {class_name(scene, label)}" for label, count in found]
    more = [f"{len(names) - SHOWN_CLASSES} more classes"] if len(names) > SHOWN_CLASSES else []
    return ": ".join([_many(len(labels), "object"), *filter(None, [", ".join(names[:SHOWN_CLASSES] + more)])])


def _counts(record: AssignmentRecord) -> str:
    missed = int(record.is_missed().sum())
    return f"{_many(len(record.prior_index), 'positive')}, {missed} of {_many(len(record.boxes), 'object')} without any"


def _weight(record: AssignmentRecord, full: dict[str, float]) -> str:
    return f"{record.weight_name}, full at {full[record.weight_name]:.2g}"


def _many(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def _place(page: Page, rows: Sequence[Row], size: tuple[int, int], legend: Legend, *, beside: bool) -> None:
    """Put titles and panels on the page, and the legend beside the first row or below all."""
    for number, row in enumerate(rows):
        if row.title:
            page.write(row.title, bold=True)
            page.write(row.facts, left=MARGIN + page.length(row.title, bold=True) + 1.5 * page.font)
            page.line()
        lefts = [MARGIN + column * (size[0] + GAP) for column in range(len(row.panels))]
        if any(panel.title for panel in row.panels):
            for left, panel in zip(lefts, row.panels, strict=True):
                room = size[0] - page.length(panel.aside) - page.font
                page.write(panel.title, left=left, width=room, bold=True)
                page.write(panel.aside, left=left, width=size[0], right=True)
            page.line()
        for left, panel in zip(lefts, row.panels, strict=True):
            page.write(panel.caption, left=left, width=size[0])
        page.line()
        for left, panel in zip(lefts, row.panels, strict=True):
            page.place(left, *size, panel.name)
        if beside and number == 0:
            page.place(MARGIN + size[0] + 3 * GAP, legend.width, legend.height, "legend")
            page.bottom += max(math.ceil(legend.height) - size[1], 0)
        page.bottom += size[1] + GAP
    if not beside:
        page.bottom += GAP // 2
        page.place(MARGIN, legend.width, legend.height, "legend")
        page.bottom += math.ceil(legend.height)
