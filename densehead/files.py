"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

_TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp")


@contextlib.contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[BinaryIO]:
    """Open a file for bytes that appears under its name once the block has ended without an error.

    Until then it is written beside it. Whoever looks, also after the process was killed, finds the file of before or
    the whole new one. Its folder is made if there is none.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def whole_folder(path: str | os.PathLike) -> Iterator[str]:
    """Give a folder to write into that becomes ``path`` once the block has ended without an error.

    Until then it lies beside it, under a hidden name. ``path`` must not exist, or be an empty folder.
    """
    path = os.path.realpath(path)
    temporary = os.path.join(os.path.dirname(path), f".{os.path.basename(path)}.{os.getpid()}.tmp")
    os.makedirs(temporary)
    try:
        yield temporary
        os.rename(temporary, path)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def whole_files(folder: str | os.PathLike) -> Iterator[Path]:
    """Give a folder to write into whose files are moved to ``folder`` once the block has ended without an error.

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


def as_typed(path: str | os.PathLike) -> str:
    """Return a path as one would type it here."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def remove_leftovers(folder: str | os.PathLike, suffix: str) -> list[str]:
    """Remove what killed processes left of files that they were writing with :func:`whole_file`.

    Files of processes that are alive on this machine stay.

    Args:
        folder: where to look, not below it.
        suffix: of the files that were to be written, such as ``'.pth'``.

    Returns:
        The names of what was removed.
    """
    removed = []
    for path in Path(folder).glob(f".*{suffix}.*.tmp"):
        match = _TEMPORARY.fullmatch(path.name)
        if match and path.is_file() and not _is_alive(int(match.group(1))):
            path.unlink(missing_ok=True)
            removed.append(path.name)
    return removed


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True
