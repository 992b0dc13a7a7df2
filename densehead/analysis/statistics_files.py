"""Statistics of assigners as files: tables to read, tables to compute with, and a figure."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from densehead.analysis.records import AssignmentRecord
from densehead.analysis.statistics import (
    GROUPS,
    SIZE_EDGES,
    AssignmentStatistics,
    ColumnStatistics,
    ambiguous_positives,
    object_sizes,
    ratio,
)
from densehead.analysis.statistics_plot import draw_statistics
from densehead.evaluation.tables import format_table, markdown_cell
from densehead.files import whole_file, whole_files

FIGURE = "assignment_statistics.png"
OBJECTS = "objects.csv"
Table = tuple[list[str], list[list]]


def comparison_table(statistics: AssignmentStatistics, *, markdown: bool = False) -> str:
    """Return a table with a row for each assigner, for the console or as Markdown.

    Its columns: images, objects; positives of an object on average, of three quartiles, and on average of small, medium
    and large objects; shares of objects without any, of positives that lie in several objects, and of objects that have
    such; the mean weight of a positive.
    """
    header = ["assigner", "objects", "positives", "quartiles", *GROUPS, "without", "ambiguous", "sharing", "weight"]
    rows = [
        [
            title,
            str(one.objects),
            _decimal(ratio(one.positives, one.objects)),
            " ".join(_decimal(value, 0) for value in one.quartiles()),
            *map(_decimal, ratio(one.group_positives, one.group_objects)),
            _percent(ratio(one.missed, one.objects)),
            _percent(ratio(one.ambiguous, one.positives)),
            _percent(ratio(one.sharing, one.objects)),
            _decimal(ratio(one.level_weight.sum(), one.positives), 2),
        ]
        for title, one in statistics.columns.items()
    ]
    return _markdown(header, rows) if markdown else format_table(header, rows)


def write_statistics(statistics: AssignmentStatistics, out_dir: str | os.PathLike) -> list[Path]:
    """Write tables and a figure, all or none; files of these names are replaced.

    ``comparison.md`` and ``comparison.csv`` have a row for each assigner, ``by_size.csv``, ``by_level.csv`` and
    ``by_class.csv`` one for each of its bins of size, levels and classes, ``assignment_statistics.png`` shows them.

    Args:
        statistics: of one assigner or several.
        out_dir: folder; made if there is none.

    Returns:
        The files.

    Raises:
        ValueError: nothing has been counted.
    """
    if not statistics.columns:
        raise ValueError("there are no statistics to write: no image has been counted")
    tables = {"comparison": _comparison, "by_size": _by_size, "by_level": _by_level, "by_class": _by_class}
    with whole_files(out_dir) as folder:
        for name, table in tables.items():
            with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
                header, rows = table(statistics)
                cells = [[_cell(cell) for cell in row] for row in rows]
                csv.writer(file, lineterminator="\n").writerows([header, *cells])
        markdown = comparison_table(statistics, markdown=True)
        (folder / "comparison.md").write_text(f"{markdown}\n", encoding="utf-8")
        draw_statistics(statistics, folder / FIGURE)
    return [Path(out_dir, name) for name in (*(f"{name}.csv" for name in tables), "comparison.md", FIGURE)]


class ObjectRows:
    """Writes a row for each object, image by image; see :func:`object_rows`."""

    def __init__(self, writer, classes: Sequence[str]) -> None:
        self._writer = writer
        self._classes = classes
        self._num_levels: int | None = None

    def add(self, title: str, record: AssignmentRecord, image: str) -> None:
        """Write the objects of an image, of which ``image`` says which it is."""
        if self._num_levels is None:
            self._num_levels = record.num_levels
            levels = [f"positives_level_{level}" for level in range(record.num_levels)]
            header = ["assigner", "image", "object", "class", "left", "top", "right", "bottom", "size", "positives"]
            self._writer.writerow([*header, *levels, "mean_weight", "ambiguous"])
        counts, count = record.counts(), len(record.boxes)
        weights = ratio(np.bincount(record.gt_index, record.weight, minlength=count), counts.sum(1))
        shared = np.bincount(record.gt_index[ambiguous_positives(record)], minlength=count)
        rows = zip(record.labels, record.boxes, object_sizes(record.boxes), counts, weights, shared, strict=True)
        for index, (label, box, size, levels, weight, ambiguous) in enumerate(rows):
            where = [title, image, index, self._classes[label], *(_cell(edge) for edge in box), _cell(size)]
            self._writer.writerow([*where, levels.sum(), *levels, _cell(weight), ambiguous])


@contextmanager
def object_rows(out_dir: str | os.PathLike, classes: Sequence[str]) -> Iterator[ObjectRows]:
    """Yield what writes ``objects.csv`` in a folder, a row for each object; all assigners must have the same levels.

    The file is there after the ``with``, unless that is left by an error.

    Args:
        out_dir: folder; made if there is none.
        classes: names of the classes.
    """
    with whole_file(Path(out_dir, OBJECTS)) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="")
        yield ObjectRows(csv.writer(text, lineterminator="\n"), classes)
        text.detach()  # which writes the rest and leaves the file open


def _comparison(statistics: AssignmentStatistics) -> Table:
    groups = [f"positives_{name}" for name in GROUPS]
    header = [
        *["assigner", "images", "objects", "positives", "positives_per_object", "quartile_25", "median", "quartile_75"],
        *[*groups, "objects_without", "share_without", "ambiguous_positives", "share_ambiguous", "sharing_objects"],
        *["share_sharing", "mean_weight", "weight"],
    ]
    rows = [
        [
            *[title, one.images, one.objects, one.positives, ratio(one.positives, one.objects), *one.quartiles()],
            *[*ratio(one.group_positives, one.group_objects), one.missed, ratio(one.missed, one.objects)],
            *[one.ambiguous, ratio(one.ambiguous, one.positives), one.sharing, ratio(one.sharing, one.objects)],
            *[ratio(one.level_weight.sum(), one.positives), one.weight_name],
        ]
        for title, one in statistics.columns.items()
    ]
    return header, rows


def _by_size(statistics: AssignmentStatistics) -> Table:
    most = max(len(one.strides) for one in statistics.columns.values())
    header = ["assigner", "size_from", "size_below", "objects", "positives_per_object", "quartile_25", "median"]
    header += ["quartile_75", "objects_without", "share_without", "mean_weight"]
    header += [f"positives_level_{level}" for level in range(most)]
    return header, [row for title, one in statistics.columns.items() for row in _size_rows(title, one, most)]


def _size_rows(title: str, one: ColumnStatistics, num_levels: int) -> Iterator[list]:
    """Rows of the bins that have objects."""
    positives, objects, quartiles = one.level_positives.sum(1), one.size_objects, one.quartiles(of_sizes=True)
    for index in np.flatnonzero(objects):
        missed = one.histogram[index, 0]
        means = [ratio(positives[index], objects[index]), *quartiles[index]]
        levels = np.pad(one.level_positives[index], (0, num_levels - len(one.strides)))
        weight = ratio(one.size_weight[index], positives[index])
        yield [
            *[title, *SIZE_EDGES[index : index + 2], objects[index], *means],
            *[missed, ratio(missed, objects[index]), weight, *levels],
        ]


def _by_level(statistics: AssignmentStatistics) -> Table:
    header = ["assigner", "level", "stride", "positives", "share_of_positives", "objects", "share_of_objects"]
    rows = []
    for title, one in statistics.columns.items():
        positives = one.level_positives.sum(0)
        columns = (one.strides, positives, ratio(positives, one.positives), one.level_objects)
        shares, weights = ratio(one.level_objects, one.objects), ratio(one.level_weight, positives)
        rows += [[title, level, *cells] for level, cells in enumerate(zip(*columns, shares, weights, strict=True))]
    return [*header, "mean_weight"], rows


def _by_class(statistics: AssignmentStatistics) -> Table:
    header = ["assigner", "class", "objects", "positives", "positives_per_object", "objects_without", "share_without"]
    rows = []
    for title, one in statistics.columns.items():
        means = ratio(one.class_positives, one.class_objects)
        shares = ratio(one.class_missed, one.class_objects)
        columns = (one.class_objects, one.class_positives, means, one.class_missed, shares)
        rows += [[title, *cells] for cells in zip(statistics.classes, *columns, strict=True)]
    return header, rows


def _cell(value) -> str:
    """Write a number with six digits, and nothing for one that is undefined."""
    if isinstance(value, str | int | np.integer):
        return str(value)
    return "" if np.isnan(value) else f"{float(value):.6g}"


def _decimal(value: float, digits: int = 1) -> str:
    return "-" if np.isnan(value) else f"{value:.{digits}f}"


def _percent(share: float) -> str:
    return "-" if np.isnan(share) else f"{100 * share:.1f}%"


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(map(markdown_cell, line))} |" for line in lines)
