"""Plain text tables for the log."""

from __future__ import annotations

from collections.abc import Sequence


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


def format_value(value: float) -> str:
    """Three decimals, or a dash for what is undefined (COCO's -1, or NaN)."""
    return f"{value:.3f}" if value >= 0 else "-"


def _justify(cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if column else cell.ljust(width)
        for column, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
