"""Checks of what data sets are given. Each message names the file or key, what came, what was expected, what to do."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from mmengine.logging import print_log

from densehead.arguments import near

#: A box may reach this far (pixels) out of its image without a word: tools round, and count from 0 or from 1.
ROUNDING = 1.0
#: A side must be one pixel long, but for the last digits of x + width - x.
MIN_SIDE = 1 - 1e-6


def warn(message: str) -> None:
    """Log a warning."""
    print_log(message, logger="current", level=logging.WARNING)


def inform(message: str) -> None:
    """Log what is as it may be, but worth knowing."""
    print_log(message, logger="current", level=logging.INFO)


def is_local(path: str, backend_args: Mapping | None = None) -> bool:
    """Whether ``path`` is on a file system that can be looked at (no ``s3://...``, no file backend of its own)."""
    return not backend_args and "://" not in str(path)


def listed(names: Iterable, limit: int = 100) -> str:
    """Write names one after the other, quoted, and how many more there are."""
    names = list(names)
    more = f", ... ({len(names) - limit} more)" if len(names) > limit else ""
    return ", ".join(repr(name) for name in names[:limit]) + more if names else "none"


# ---------------------------------------------------------------------------------------------- paths and keys


def require_path(path: str, *, key: str, owner: str, data_root: str | None, backend_args: Mapping | None) -> None:
    """Check that a file of a data set is there.

    Raises:
        ValueError: the key is empty.
        FileNotFoundError: the file, or the whole ``data_root``, does not exist.
    """
    if not path:
        raise ValueError(f"{owner}: {key} is not set; it must name the annotation file (relative to data_root)")
    if not is_local(path, backend_args) or os.path.isfile(path):
        return
    _require_root(owner, data_root)
    folder = os.path.dirname(path) or "."
    if os.path.isdir(folder):
        there = sorted(os.listdir(folder))
        hint = near(os.path.basename(path), there, count=1).strip() or f"{folder!r} holds: {listed(there, 10)}."
    else:
        hint = f"Its folder {folder!r} does not exist."
    raise FileNotFoundError(f"{owner}: {key}={path!r} is not a file. {hint} Correct {key} or data_root in the config.")


def require_folder(path: str, *, key: str, owner: str, data_root: str | None) -> None:
    """Check that a folder of a data set is there.

    Raises:
        FileNotFoundError: the folder, or the whole ``data_root``, does not exist.
    """
    if os.path.isdir(path):
        return
    _require_root(owner, data_root)
    around = os.path.dirname(path.rstrip("/")) or "."
    there = listed(sorted(os.listdir(around)), 10) if os.path.isdir(around) else "nothing, since it does not exist"
    raise FileNotFoundError(
        f"{owner}: {key}={path!r} is not a folder. {around!r} holds: {there}. Correct {key} or data_root in the config."
    )


def _require_root(owner: str, data_root: str | None) -> None:
    if data_root and is_local(data_root) and not os.path.isdir(data_root):
        raise FileNotFoundError(
            f"{owner}: data_root={data_root!r} does not exist (looked in {os.getcwd()!r}). Set data_root to the folder "
            f"that holds the data set, or link it there: ln -s /path/to/the/data {data_root.rstrip('/')}"
        )


def check_filter(filter_cfg: Mapping | None, allowed: Collection[str], owner: str) -> None:
    """Raise a ValueError for a key of ``filter_cfg`` that nothing reads."""
    for key in filter_cfg or {}:
        if key not in allowed:
            hint = near(key, allowed, count=1)
            raise ValueError(f"{owner}: filter_cfg has no key {key!r}; it takes {listed(allowed)}.{hint}")


def check_classes(classes, owner: str, key: str = "metainfo['classes']") -> tuple[str, ...]:
    """Return the names of classes as a tuple.

    Args:
        classes: a list or tuple of names.
        owner: the data set or file, for messages.
        key: what it calls them.

    Raises:
        TypeError: no list or tuple of names.
        ValueError: no name, or one twice.
    """
    if isinstance(classes, str) or not isinstance(classes, Sequence) or not all(isinstance(c, str) for c in classes):
        raise TypeError(
            f"{owner}: {key} must be a list or tuple of names (a single one is written ('name',)), but got {classes!r}"
        )
    twice = sorted({name for name in classes if list(classes).count(name) > 1})
    if not classes or twice:
        problem = f"names {listed(twice)} more than once" if twice else "is empty"
        raise ValueError(f"{owner}: {key} {problem}; it must name each class of the data set once")
    return tuple(classes)


def match_classes(classes: Sequence[str], counts: Mapping[str, int], where: str) -> None:
    """Compare the classes that a data set is asked for with those that its file has.

    Args:
        classes: ``metainfo['classes']``.
        counts: objects of each class that the file has, in its order.
        where: the file, for the message.

    Raises:
        ValueError: no class is in the file.
    """
    absent = [name for name in classes if name not in counts]
    unused = {name: count for name, count in counts.items() if name not in classes}
    if counts and len(absent) == len(classes):
        raise ValueError(
            f"{where}: none of metainfo['classes'] is in the file, so nothing could be learned. classes: "
            f"{listed(classes)}; the file has: {listed(counts)}. Write the file's names (case counts) into "
            "metainfo=dict(classes=(...)) of the data set"
        )
    if absent:
        warn(
            f"{where}: metainfo['classes'] names {listed(absent)}, which the file does not have. "
            f"It has: {listed(counts)}. Correct the names, unless these classes really have no object here."
        )
    if unused:
        left_out = ", ".join(f"{name!r} ({count})" for name, count in unused.items())
        inform(
            f"{where}: uses {len(counts) - len(unused)} of {len(counts)} classes; metainfo['classes'] leaves out, with "
            f"their objects: {left_out}."
        )


def require_images(left: int, read: int, reasons: Mapping[str, int], where: str) -> None:
    """Raise a ValueError where filtering left no image."""
    if left:
        return
    why = ", ".join(f"{count} by {reason}" for reason, count in reasons.items() if count) or "none was filtered"
    raise ValueError(
        f"{where}: no image is left of {read} ({why}). Check metainfo['classes'], the boxes of the file, "
        "filter_cfg and indices of the data set"
    )


def require_unique(
    ids: Sequence[Hashable], what: str, where: str, advice: str = "Rename or remove one of them"
) -> None:
    """Raise a ValueError that names the first of ``ids`` which occurs twice."""
    if len(set(ids)) == len(ids):
        return
    first: dict[Hashable, int] = {}
    for position, one in enumerate(ids):
        if one in first:
            raise ValueError(
                f"{where}: the {what} {one!r} must occur once, but stands at positions {first[one]} and {position}. "
                f"{advice}"
            )
        first[one] = position


# ------------------------------------------------------------------------------------------------------- boxes


@dataclass(frozen=True)
class BoxCheck:
    """What became of the boxes of a file.

    Attributes:
        boxes: (n, 4) xyxy in pixels, clipped to their images.
        keep: (n,) bool, False where a box was dropped.
        dropped: for each reason the indices of the boxes.
        clipped: indices of boxes that reached out by more than :data:`ROUNDING`.
    """

    boxes: np.ndarray
    keep: np.ndarray
    dropped: dict[str, np.ndarray]
    clipped: np.ndarray


def check_boxes(
    boxes: np.ndarray, widths: np.ndarray, heights: np.ndarray, areas: np.ndarray | None = None
) -> BoxCheck:
    """Clip boxes to their images and drop what is no box.

    Args:
        boxes: (n, 4) xyxy, pixels.
        widths: (n,) of each box's image, pixels.
        heights: (n,) likewise.
        areas: (n,) of the annotated objects, square pixels, where they are known.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        finite = np.isfinite(boxes).all(1)
        extent = finite & (boxes[:, 2:] - boxes[:, :2] >= MIN_SIDE).all(1)
        if areas is not None:
            extent &= areas > 0
        limits = np.stack([widths, heights, widths, heights], 1)
        clipped = np.clip(boxes, 0, limits)
        inside = extent & (clipped[:, 2:] > clipped[:, :2]).all(1)
        reaches_out = inside & (np.abs(clipped - boxes) > ROUNDING).any(1)
    dropped = {
        "with NaN or infinite coordinates": np.flatnonzero(~finite),
        "of negative or no extent (a side below 1 pixel, or no area)": np.flatnonzero(finite & ~extent),
        "outside their image": np.flatnonzero(extent & ~inside),
    }
    return BoxCheck(clipped, inside, dropped, np.flatnonzero(reaches_out))


def report_boxes(check: BoxCheck, boxes: np.ndarray, image_name: Callable[[int], str], where: str) -> None:
    """Say once how many boxes were dropped or clipped, and where the first of each kind is.

    Args:
        check: what became of them.
        boxes: (n, 4) xyxy as the file has them.
        image_name: gives the name of the image of box ``i``.
        where: the file, for the message.
    """

    def told(indices: np.ndarray, what: str) -> str:
        first = int(indices[0])
        return f"{len(indices)} {what} (first in {image_name(first)!r}: {[float(x) for x in boxes[first]]})"

    parts = [told(indices, what) for what, indices in check.dropped.items() if len(indices)]
    total = int((~check.keep).sum())
    said = [f"dropped {total} of {len(boxes)} boxes: {', '.join(parts)}"] if parts else []
    if len(check.clipped):
        said.append(f"clipped {told(check.clipped, f'that reach more than {ROUNDING:g} pixel out of their image')}")
    if said:
        warn(f"{where}: {'; '.join(said)}. Boxes are xyxy in pixels. Correct the annotations if these objects matter.")
