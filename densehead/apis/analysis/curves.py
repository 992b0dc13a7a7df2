"""Curves of several trainings, from their work dirs to a picture and a CSV file."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from densehead.evaluation.tables import write_csv
from densehead.files import whole_files
from densehead.visualization.runs import Run, choose_keys, compare_runs, smoothed
from densehead.visualization.scalars import read_scalars, scalar_files

FOLDER, FILE = "vis_data", "scalars.json"


def read_runs(paths: Sequence[str | os.PathLike]) -> list[Run]:
    """Read what trainings have logged.

    Args:
        paths: work dirs or files, see :func:`~densehead.visualization.scalars.scalar_files`.

    Raises:
        FileNotFoundError: one of them is not there.
        ValueError: a file holds something else.
    """
    return [
        Run.of(name, read_scalars(scalar_files(path))) for name, path in zip(short_names(paths), paths, strict=True)
    ]


def short_names(paths: Sequence[str | os.PathLike]) -> list[str]:
    """Return the ends of the paths that tell them apart, without what every file of a run is called."""
    parts = [Path(os.path.abspath(path)).parts for path in paths]
    parts = [one[:-1] if one[-1] == FILE else one for one in parts]
    parts = [one[:-1] if one[-1] == FOLDER else one for one in parts]
    longest = max(map(len, parts))
    for count in range(1, longest + 1):
        names = ["/".join(one[-count:]) for one in parts]
        if max(Counter(names).values()) == 1:
            break
    return names


def report_curves(
    runs: Sequence[Run], out_file: str | os.PathLike, *, keys: Sequence[str] | None = None, smooth: int = 1
) -> tuple[Path, Path]:
    """Draw the numbers of runs into a PNG and write them into a CSV file beside it.

    Args:
        runs: of :func:`read_runs`.
        out_file: the picture.
        keys: names or patterns, see :func:`~densehead.visualization.runs.choose_keys`.
        smooth: how many logged values of the training are averaged.

    Returns:
        The paths of both.

    Raises:
        ValueError: no such number in any run, another ending than ``.png``, ``smooth`` below 1.
    """
    out_file = Path(out_file)
    if out_file.suffix != ".png":
        raise ValueError(f"--out must end with .png, but got {out_file}")
    chosen = choose_keys(runs, keys)
    with whole_files(out_file.parent) as folder:
        compare_runs(runs, chosen, folder / out_file.name, smooth=smooth)
        rows = ((run.name, key, *row) for run in runs for key in chosen for row in _rows(run, key, smooth))
        write_csv(folder / f"{out_file.stem}.csv", ("run", "key", "step", "value", "smoothed"), rows)
    return out_file, out_file.with_suffix(".csv")


def _rows(run: Run, key: str, smooth: int) -> zip:
    steps, values = run.series(key)
    means = values if run.is_metric(key) else smoothed(key, values, smooth)
    return zip(steps.astype(int).tolist(), values.tolist(), means.tolist(), strict=True)
