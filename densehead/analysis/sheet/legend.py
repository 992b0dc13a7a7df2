"""The legend of a sheet: what colours, sizes, opacity and frames mean, once for all its panels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from densehead.analysis.sheet.layout import INK, POINT, text_length
from densehead.analysis.sheet.marks import FAINTEST
from densehead.analysis.sheet.panels import BRIGHTEST, DARKEST, HOLLOW, WARNING
from densehead.visualization.object_colors import OBJECT_COLORS

GROUND = (DARKEST + 0.35 * (BRIGHTEST - DARKEST)) / 255
SPACE = 26  # between entries, pixels

Entry = tuple[float, Callable[[Any, float, float], None], str]


class Legend:
    """Symbols on the grey of the panels, each with its words; in as many lines as it takes.

    Args:
        strides: of the levels, pixels of the image.
        diameters: of their points, pixels of the sheet.
        has_cells: whether panels show cells.
        width: of the legend, pixels.
        font: size of its text, pixels.
    """

    def __init__(
        self, strides: Sequence[int], diameters: Sequence[float], *, has_cells: bool, width: float, font: int
    ) -> None:
        self.width, self.font = width, font
        self.row = max(1.9 * font, 1.15 * max(diameters))
        entries: list[Entry] = [
            (3.4 * font, self._colors, "points answer for the object of their colour"),
            (2.6 * font, self._opacity, "opacity: weight in the loss"),
            (1.6 * font, self._hollow, "ignored"),
            (2.4 * font, self._warning, "object that no point answers for"),
        ]
        sizes = [
            (max(size + 8, 1.6 * font), self._point(size), f"{stride:g}")
            for stride, size in zip(strides, diameters, strict=True)
        ]
        sizes[0] = (*sizes[0][:2], f"stride {sizes[0][2]}")
        if has_cells:
            entries.append((1.8 * font, self._cell, "cell of its level"))
        self.places = self._arrange(entries, sizes)
        self.height = (1 + max(line for *_, line in self.places)) * self.row

    def draw(self, axis: Any) -> None:
        """Draw it into an axis of its width and height."""
        axis.set_xlim(0, self.width)
        axis.set_ylim(self.height, 0)
        for left, (wide, symbol, text), line in self.places:
            middle = (line + 0.5) * self.row
            self._plate(axis, left, middle, wide)
            symbol(axis, left + wide / 2, middle)
            axis.text(left + wide + 6, middle, text, fontsize=self.font * POINT, va="center_baseline", color=INK)

    def _arrange(self, entries: Sequence[Entry], sizes: Sequence[Entry]) -> list[tuple[float, Entry, int]]:
        """Lay the entries out line by line; the sizes of the levels stay together."""
        places, left, line = [], 0.0, 0
        for group in [*[[entry] for entry in entries[:1]], list(sizes), *[[entry] for entry in entries[1:]]]:
            widths = [
                wide + 6 + text_length(text, self.font) + SPACE * (0.5 if len(group) > 1 else 1)
                for wide, _, text in group
            ]
            if left and left + sum(widths) > self.width:
                left, line = 0.0, line + 1
            for wide, entry in zip(widths, group, strict=True):
                places.append((left, entry, line))
                left += wide
            left += SPACE * (len(group) > 1) / 2
        return places

    def _plate(self, axis: Any, left: float, middle: float, wide: float) -> None:
        from matplotlib.patches import Rectangle

        tall = self.row - 6
        axis.add_patch(Rectangle((left, middle - tall / 2), wide, tall, facecolor=[GROUND] * 3, edgecolor="none"))

    def _disc(self, axis: Any, x: float, y: float, size: float, color: Sequence[float], **look) -> None:
        from matplotlib.patches import Circle

        look = {"facecolor": color, "edgecolor": (0, 0, 0, 0.45), "linewidth": 0.5 * POINT} | look
        axis.add_patch(Circle((x, y), size / 2, **look))

    def _colors(self, axis: Any, x: float, y: float) -> None:
        for step, color in zip((-1, 0, 1), OBJECT_COLORS, strict=False):
            self._disc(axis, x + step * self.font, y, 0.7 * self.font, np.array(color) / 255)

    def _opacity(self, axis: Any, x: float, y: float) -> None:
        color = np.array(OBJECT_COLORS[0]) / 255
        for step, weight in zip((-0.8, 0, 0.8), (0, 0.5, 1), strict=True):
            opacity = FAINTEST + (1 - FAINTEST) * weight
            self._disc(axis, x + step * self.font, y, 0.7 * self.font, (*color, opacity))

    def _point(self, size: float) -> Callable[[Any, float, float], None]:
        return lambda axis, x, y: self._disc(axis, x, y, size, np.array(OBJECT_COLORS[0]) / 255)

    def _hollow(self, axis: Any, x: float, y: float) -> None:
        self._disc(axis, x, y, 0.7 * self.font, "none", edgecolor=HOLLOW, linewidth=POINT)

    def _cell(self, axis: Any, x: float, y: float) -> None:
        from matplotlib.patches import Rectangle

        color, side = np.array(OBJECT_COLORS[0]) / 255, 1.2 * self.font
        look = {"facecolor": (*color, 0.12), "edgecolor": (*color, 0.55), "linewidth": 0.8 * POINT}
        axis.add_patch(Rectangle((x - side / 2, y - side / 2), side, side, **look))
        self._disc(axis, x, y, 0.5 * self.font, color)

    def _warning(self, axis: Any, x: float, y: float) -> None:
        from matplotlib.patches import Rectangle

        wide, tall = 1.6 * self.font, 1.0 * self.font
        for color, dash in zip(WARNING, ("solid", (0, (2, 2))), strict=True):
            frame = Rectangle((x - wide / 2, y - tall / 2), wide, tall, facecolor="none", edgecolor=color)
            frame.set(linewidth=2.5 * POINT, linestyle=dash)
            axis.add_patch(frame)
