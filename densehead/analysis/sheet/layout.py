"""Where things are on a sheet, in its pixels: rows of panels below their titles."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from densehead.visualization.drawing import load_font
from densehead.visualization.figures import as_written

DPI = 100
POINT = 72 / DPI  # points in a pixel
GAP, MARGIN = 12, 16
INK = "#202020"


@dataclass
class Page:
    """A sheet that grows downwards; nothing is drawn before its size is known.

    Attributes:
        width: pixels.
        font: size of the text, pixels.
        bottom: where the next row begins, pixels from the top.
    """

    width: int
    font: int
    bottom: int = MARGIN
    _texts: list[tuple[float, float, str, dict]] = field(default_factory=list)
    _areas: list[tuple[float, float, float, float, str]] = field(default_factory=list)

    def write(
        self, text: str, *, left: float = MARGIN, width: float | None = None, bold: bool = False, right: bool = False
    ) -> None:
        """Put text into the current line, at its left or right end; smaller where it would not fit into ``width``."""
        width = self.width - MARGIN - left if width is None else width
        size = self.font * min(1, width / max(self.length(text, bold), 1))
        style = {
            "fontsize": size * POINT,
            "fontweight": "bold" if bold else "normal",
            "ha": "right" if right else "left",
        }
        self._texts.append((left + width * right, self.bottom + 0.72 * self.font, text, style))

    def length(self, text: str, bold: bool = False) -> float:
        """Return the length of a text in pixels."""
        return text_length(text, self.font, bold)

    def line(self) -> None:
        """Go to the next line of text."""
        self.bottom += round(1.45 * self.font)

    def place(self, left: float, width: float, height: float, name: str) -> None:
        """Reserve an area that begins at the current height."""
        self._areas.append((left, self.bottom, width, height, name))

    def figure(self) -> tuple[Any, dict[str, Any]]:
        """Return the figure with its texts, and the axes of its areas by their names."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        height = self.bottom + MARGIN
        figure = Figure(figsize=(self.width / DPI, height / DPI), dpi=DPI, facecolor="white")
        FigureCanvasAgg(figure)
        for left, top, text, style in self._texts:
            figure.text(left / self.width, 1 - top / height, as_written(text), va="center", color=INK, **style)
        axes = {}
        for left, top, width, tall, name in self._areas:
            place = (left / self.width, 1 - (top + tall) / height, width / self.width, tall / height)
            axes[name] = figure.add_axes(place, label=name)
            axes[name].set_axis_off()
        return figure, axes


def text_length(text: str, size: float, bold: bool = False) -> float:
    """Return the length of a line of ``size`` pixels, in pixels and rather too long than too short."""
    return load_font(100).getlength(text) * size / 100 * (1.22 if bold else 1.08)
