"""What all figures have in common: a canvas without pyplot's global state, line styles, axes without clutter."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Colours that can be told apart on white with any colour vision (Okabe and Ito, 2008), the darker ones first.
LINES = ("#000000", "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
DASHES = ("-", "--", ":")
FAINT = "#bbbbbb"  # lines of what is not named
NOTE = "#555555"  # text of notes
DPI = 120


def new_figure(width: float, height: float, **options: Any) -> Figure:
    """Return an empty figure of so many inches."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DPI, **options)
    FigureCanvasAgg(figure)
    return figure


def line_style(index: int, *, skip_black: bool = False) -> dict[str, Any]:
    """Return colour and dashes of the line of a number; 21 differ (18 without black)."""
    colors = LINES[1:] if skip_black else LINES
    turn, color = divmod(index, len(colors))
    return {"color": colors[color], "linestyle": DASHES[turn % len(DASHES)]}


def as_written(text: str) -> str:
    """Return a text that matplotlib shows letter by letter; what is between dollars it would take for mathematics."""
    return text.replace("$", r"\$")


def tidy(axis: Axes) -> None:
    """Leave a light grid and two sides of the frame."""
    axis.grid(color="#dddddd", linewidth=0.7)
    axis.set_axisbelow(True)
    axis.spines[["top", "right"]].set_visible(False)


def save_png(figure: Figure, out_file: str | PathLike) -> Path:
    """Write a figure as a PNG, whose folder is made if there is none; return its path."""
    out_file = Path(out_file)
    out_file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out_file, format="png")
    return out_file
