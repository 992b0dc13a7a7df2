"""Folders of results that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_whole(folder: str | os.PathLike) -> Iterator[Path]:
    """Yield an empty folder whose files are moved to ``folder`` at the end, unless an error ends it.

    Files of the same names are replaced one by one; others stay.

    Args:
        folder: is made where it is not there.

    Raises:
        ValueError: ``folder`` is a file.
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file, but must be a folder to write to (or not be there yet)")
    existing = next(one for one in (folder.absolute(), *folder.absolute().parents) if one.exists())
    unfinished = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", suffix=".tmp", dir=existing))
    try:
        yield unfinished
        for file in sorted(one for one in unfinished.rglob("*") if one.is_file()):
            target = folder / file.relative_to(unfinished)
            target.parent.mkdir(parents=True, exist_ok=True)
            file.replace(target)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
