"""Tables as plain text for the log, in Markdown, and as CSV files."""

from __future__ import annotations

import csv
import html
import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]], footer: Sequence[str] | None = None) -> str:
    """Lay cells out in columns: the first to the left, the others (numbers) to the right.

    Args:
        header: names of the columns.
        rows: cells, as many a row as there are names.
        footer: a last row below a rule.

    Returns:
        Lines without a newline at the end.
    """
    lines = [header, *rows, *([footer] if footer else [])]
    widths = [max(len(cell) for cell in column) for column in zip(*lines, strict=True)]
    rule = "-+-".join("-" * width for width in widths)
    text = [" | ".join(_justify(line, widths)).rstrip() for line in lines]
    text.insert(1, rule)
    if footer:
        text.insert(-1, rule)
    return "\n".join(text)


def markdown_cell(text: str) -> str:
    """Return what a cell of a Markdown table shows as ``text``: no HTML, no link, no end of the cell is left in it."""
    return re.sub(r"([\\`*\[\]|])", r"\\\1", html.escape(" ".join(text.split()), quote=False))


def format_value(value: float) -> str:
    """Three decimals, or a dash for what is undefined (COCO's -1, or NaN)."""
    return f"{value:.3f}" if value >= 0 else "-"


def write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV file; what is undefined (NaN) is left empty."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows([_shortened(value) for value in row] for row in rows)


def _justify(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if column else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]


def _shortened(value: Any) -> Any:
    """A number of six digits; nothing for what is undefined."""
    if isinstance(value, float | np.floating):
        return "" if math.isnan(value) else f"{value:.6g}"
    return value
