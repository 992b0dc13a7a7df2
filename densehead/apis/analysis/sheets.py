"""Sheets of scenes as files, and a table of what was on them."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

from densehead.analysis import Scene
from densehead.analysis.sheet import draw_sheet
from densehead.evaluation.tables import format_table
from densehead.files import whole_file

FORMATS = ("png", "pdf", "svg")


class SheetWriter:
    """Writes a sheet for each scene, ``<name of the image>.<format>``.

    Args:
        folder: for the files; made if it is not there. Files of the same names are replaced.
        levels, columns, panel_side: see :func:`densehead.analysis.sheet.draw_sheet`.
        format: of ``FORMATS``.

    Raises:
        ValueError: another format, or a number that is too small.
    """

    def __init__(
        self,
        folder: str | os.PathLike,
        *,
        levels: bool = True,
        columns: int | None = None,
        panel_side: int | None = None,
        format: str = "png",
    ) -> None:
        if format not in FORMATS:
            raise ValueError(f"--format must be one of {', '.join(FORMATS)}, but got {format!r}")
        for flag, value, least in (("columns", columns, 1), ("panel-side", panel_side, 16)):
            if value is not None and value < least:
                raise ValueError(f"--{flag} must be at least {least}, but got {value}")
        self.folder = Path(folder)
        self.levels = levels
        self.columns = columns
        self.panel_side = panel_side
        self.format = format
        self._names: set[str] = set()

    def write(self, scene: Scene) -> Path:
        """Draw a scene, and return the path of its sheet."""
        stem = name = Path(scene.name).stem or "image"
        number = 1
        while name in self._names:  # images of one name in several folders, or one image several times
            number += 1
            name = f"{stem}_{number}"
        self._names.add(name)
        figure = draw_sheet(scene, levels=self.levels, columns=self.columns, panel_side=self.panel_side)
        path = self.folder / f"{name}.{self.format}"
        with whole_file(path) as file:
            figure.savefig(file, format=self.format)
        return path


@dataclass
class Tally:
    """What was on the scenes of a comparison.

    Attributes:
        images: how many there were.
        counts: {title: [objects, positives, objects without any]}.
    """

    images: int = 0
    counts: dict[str, list[int]] = field(default_factory=dict)

    def add(self, scene: Scene) -> None:
        """Count a scene."""
        self.images += 1
        for title, record in scene.records.items():
            seen = self.counts.setdefault(title, [0, 0, 0])
            for place, count in enumerate((len(record.boxes), len(record.prior_index), record.is_missed().sum())):
                seen[place] += int(count)

    def table(self) -> str:
        """Return the counts, a line for each title."""
        header = [f"{self.images} image{'s' * (self.images != 1)}", "objects", "positives", "per object", "without any"]
        rows = []
        for title, (objects, positives, missed) in self.counts.items():
            mean = f"{positives / objects:.1f}" if objects else "-"
            rows.append([title, f"{objects:,}", f"{positives:,}", mean, f"{missed:,}"])
        return format_table(header, rows)
