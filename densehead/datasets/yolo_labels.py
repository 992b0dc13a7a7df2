"""Label files of YOLO: one object a line, in parts of the image's width and height."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

#: How far out of 0..1 a number may be. What is nearer is clipped like any box that reaches out of its image; what is
#: farther cannot be a part of an image's side, but pixels or something else altogether.
TOLERANCE = 0.5


class LabelRow(NamedTuple):
    """An object of a label file: its line (from 1), its class, its box in parts of the image; is it of a polygon."""

    line: int
    label: int
    left: float
    top: float
    right: float
    bottom: float
    is_polygon: bool


@dataclass(frozen=True)
class YOLOObjects:
    """What label files say.

    Attributes:
        infos: the images, as data infos with ``label_path`` (None where there is none) but without ``instances``.
        boxes: (n, 4) xyxy in pixels.
        labels: (n,).
        image_index: (n,) index of each object's image.
        lines: the line of each object in the label file of its image.
    """

    infos: list[dict]
    boxes: np.ndarray
    labels: np.ndarray
    image_index: np.ndarray
    lines: list[int]

    def place(self, index: int) -> str:
        """Return file and line of an object."""
        return f"{self.infos[self.image_index[index]]['label_path']}:{self.lines[index]}"


def parse_labels(text: str, path: str) -> list[LabelRow]:
    """Read the text of a label file.

    A line has a class (an integer from 0 on) and the centre, width and height of a box; or a class and three or more
    points of a polygon, which is read as the box around it.

    Args:
        text: what the file says.
        path: its name, for messages.

    Raises:
        ValueError: a line is neither; the message names file and line.
    """
    rows, faults = split_labels(text)
    for line, fault in faults.items():
        raise ValueError(f"{path}:{line}: {fault}")
    return rows


def split_labels(text: str) -> tuple[list[LabelRow], dict[int, str]]:
    """Return the objects of a label file, and of each other line (from 1) why it is none."""
    rows, faults = [], {}
    for line, content in enumerate(text.splitlines(), 1):
        words = content.split()
        if words:
            try:
                rows.append(_row(line, [float(word) for word in words]))
            except ValueError as error:
                faults[line] = _explained(error, words)
    return rows, faults


def read_label_file(path: str) -> str | None:
    """Return the text of a label file, or None where there is none.

    Raises:
        ValueError: it cannot be read, or is no text.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            return file.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: is no text ({error}); a label file has a line of numbers for each object") from None


def _row(line: int, numbers: list[float]) -> LabelRow:
    label, *places = numbers
    _check_count(len(numbers))
    if not (label.is_integer() and label >= 0):
        raise ValueError(f"the class must be an integer, 0 or above, but is {label:g}")
    if any(abs(one - 0.5) > 0.5 + TOLERANCE and abs(one) != float("inf") for one in places):
        raise ValueError(
            f"boxes must be in parts of the image's width and height, 0 to 1, but here is {max(places, key=abs):g}. "
            "If these are pixels, divide x and width by the image's width, y and height by its height"
        )
    if len(places) == 4:
        x, y, width, height = places
        return LabelRow(line, int(label), x - width / 2, y - height / 2, x + width / 2, y + height / 2, False)
    xs, ys = places[::2], places[1::2]
    if any(one != one for one in places):  # min and max pass over a NaN or not, as it stands first or last
        return LabelRow(line, int(label), *(float("nan"),) * 4, True)
    return LabelRow(line, int(label), min(xs), min(ys), max(xs), max(ys), True)


def _check_count(count: int) -> None:
    if count == 6:
        raise ValueError(
            "6 numbers, as detections have, with the confidence last; truth has 5: class, centre x, centre y, width, "
            "height. Remove the sixth"
        )
    if count < 5 or count % 2 == 0:
        raise ValueError(
            f"{count} numbers; there must be 5 (class, centre x, centre y, width, height), or a class and x and y of "
            "three or more points of a polygon"
        )


def _explained(error: ValueError, words: list[str]) -> str:
    text = str(error)
    if text.startswith("could not convert"):
        text = f"a line holds numbers alone, but this has {text.partition(': ')[2]}"
    return f"{text}. The line is {' '.join(words)[:80]!r}" + ("" if len(words) < 12 else " ...")
