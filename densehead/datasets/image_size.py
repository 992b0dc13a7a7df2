"""Sizes of image files from their headers: what an image will measure once it is loaded."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import IO, NamedTuple, TypeVar

import cv2
import numpy as np
from PIL import Image

from densehead.datasets.image_limit import require_decodable, require_size

#: Endings of the files that are taken for images, in small letters.
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
_EXIF_ORIENTATION = 0x0112
_CHUNK = 128  # files that a thread reads before it asks for more

Item = TypeVar("Item")
Result = TypeVar("Result")


class Header(NamedTuple):
    """What the header of an image file says: height and width as Pillow has them, EXIF orientation (1 to 8), format."""

    height: int
    width: int
    orientation: int
    format: str

    @property
    def is_turned(self) -> bool:
        """Whether the orientation swaps the sides."""
        return self.orientation in (5, 6, 7, 8)


def read_header(file: str | os.PathLike | IO[bytes]) -> Header:
    """Read the header of an image file, and nothing else of it.

    Raises:
        Exception: it is no image, or Pillow cannot make sense of it.
    """
    with Image.open(file) as image:
        orientation = image.getexif().get(_EXIF_ORIENTATION, 1)
        known = orientation if orientation in range(1, 9) else 1
        return Header(image.height, image.width, known, image.format)


def loaded_size(file: IO[bytes], path: str) -> tuple[int, int]:
    """Return height and width of an image file as OpenCV loads it: turned as its EXIF tag says.

    Args:
        file: open at its beginning.
        path: its name, for the message.

    Raises:
        ValueError: it is no image, or larger than :func:`~densehead.datasets.image_limit.pixel_limit` allows.
    """
    try:
        header = read_header(file)
    except Exception:  # what Pillow cannot read, OpenCV may
        header = None
    if header is not None:
        require_size(header.height, header.width, path)
    if header is not None and not header.is_turned:
        return header.height, header.width
    if header is not None and header.format in ("JPEG", "MPO"):
        return header.width, header.height
    file.seek(0)
    return _decoded_size(file.read(), path)  # it depends on OpenCV's version which other formats are turned


def image_size(path: str) -> tuple[int, int]:
    """Return :func:`loaded_size` of a file, which is read once in a process unless it changes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it cannot be read, or is no image.
    """
    try:
        status = os.stat(path)
        stamp = (status.st_mtime_ns, status.st_size)
        known = _KNOWN.get(path)
        if known is None or known[0] != stamp:
            with open(path, "rb") as file:
                known = _KNOWN[path] = (stamp, loaded_size(file, path))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(f"the image {path!r} cannot be read: {error.strerror or error}") from error
    return known[1]


_KNOWN: dict[str, tuple[tuple[int, int], tuple[int, int]]] = {}  # path: (time and length of the file), (height, width)


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> Iterator[Result]:
    """Yield ``function`` of each item, in their order; some files are read while others are waited for."""
    items = list(items)
    chunks = [items[start : start + _CHUNK] for start in range(0, len(items), _CHUNK)]
    if len(chunks) < 2:
        yield from map(function, items)
        return
    with ThreadPoolExecutor(min(16, 4 * (os.cpu_count() or 1))) as pool:
        for results in pool.map(lambda chunk: [function(one) for one in chunk], chunks):
            yield from results


def _decoded_size(data: bytes, path: str) -> tuple[int, int]:
    require_decodable(data, path)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    if image is None:
        what = f"starts with {data[:8]!r}, unlike an image" if data else "is empty"
        raise ValueError(
            f"the image {path!r} cannot be read for its size: the file of {len(data)} bytes {what}. Copy it again, or "
            "replace it by an image (JPEG, PNG, ...), or remove it"
        )
    return image.shape[:2]
