"""Looking into folders of data sets."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence


def files_in(folder: str, endings: Sequence[str], depth: int | None = None) -> list[str]:
    """Return the files in a folder and in those in it, as paths that begin with ``folder``, sorted.

    Links are followed. Names that begin with a dot are passed over: they are no data, but what systems leave behind.

    Args:
        folder: where to look; nothing is found in one that does not exist.
        endings: of the files wanted, in small letters.
        depth: how many folders deep to look; 0 for the folder alone, None for all.
    """
    wanted = tuple(endings)
    return sorted(
        os.path.join(here, name)
        for here, names in _walk(folder, depth)
        for name in names
        if name.lower().endswith(wanted) and not name.startswith(".")
    )


def folders_in(folder: str, depth: int) -> list[str]:
    """Return a folder and those in it, down to a depth, sorted."""
    return sorted(here for here, _ in _walk(folder, depth))


def inner_path(path: str, root: str) -> str:
    """Return a path from ``root`` on, with ``/`` and empty for itself; the whole path where it does not lie in it."""
    start = root + os.sep
    inner = path[len(start) :] if path.startswith(start) else os.path.relpath(path, root)
    if inner == os.pardir or inner.startswith(os.pardir + os.sep):
        return path
    return "" if inner == os.curdir else inner.replace(os.sep, "/")


def lies_in(path: str, root: str) -> bool:
    """Tell whether a path, as it is written, leads to something in a folder; links are not followed."""
    root = os.path.abspath(root)
    return os.path.commonpath([root, os.path.abspath(path)]) == root


def require_inside(names: Sequence[str], folder: str, root: str, where: str) -> None:
    """Refuse names of files that lead out of a data root, to which an address of the web belongs as well.

    Args:
        names: as they are written.
        folder: where they count from, which may itself be an address (``s3://...``).
        root: the data root; ``folder`` instead where that does not lie in it.
        where: the file that names them, for the message.

    Raises:
        ValueError: says the first that does.
    """
    if "://" in folder or not lies_in(folder, root):
        root = folder
    for name in names:
        if not (os.path.isabs(name) or ".." in name or "://" in name or "\0" in name):
            continue  # cannot; the rest is slow
        path = os.path.join(folder, name)
        if "\0" in name or ("://" in path and not folder) or not lies_in(path, root):
            raise ValueError(
                f"{where}: the image {name!r} lies outside of the folder {root or os.curdir!r}. Correct the file, or "
                "data_root, or say allow_outside=True in the data set if that is meant"
            )


def _walk(folder: str, depth: int | None) -> Iterator[tuple[str, list[str]]]:
    """Yield folders, each once wherever links lead, and the names of the files in them."""
    seen = set()
    for here, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(here)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        level = 0 if here == folder else os.path.relpath(here, folder).count(os.sep) + 1
        folders[:] = sorted(one for one in folders if not one.startswith(".")) if depth is None or level < depth else []
        yield here, files
