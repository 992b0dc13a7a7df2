"""Looking at image files: whether they are there and whole, how large their images are, and which are the same."""

from __future__ import annotations

import enum
import hashlib
import io
import os
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image

from densehead.analysis.doctor.progress import Tracker
from densehead.datasets.transforms.decoding import TAIL, decode, is_truncated, lacks_end

#: Bytes from the beginning of a file in which the header of its image usually ends.
HEAD = 1 << 16
_ORIENTATION = 0x0112


class State(enum.Enum):
    """What became of reading a file."""

    WHOLE = "whole"
    MISSING = "missing"
    UNREADABLE = "unreadable"
    TRUNCATED = "truncated"


@dataclass(frozen=True)
class ImageFile:
    """What was seen of an image file.

    Attributes:
        state: whether it can be read.
        size: width and height of the image as stored, pixels; None where it cannot be read.
        is_turned: whether its EXIF tag swaps them.
        sketch: equal for files of the same content, and rarely for others.
        detail: why it cannot be read.
    """

    state: State
    size: tuple[int, int] | None = None
    is_turned: bool = False
    sketch: bytes = b""
    detail: str = ""

    @property
    def shown_size(self) -> tuple[int, int]:
        """Width and height as the image is shown and loaded."""
        return self.size[::-1] if self.is_turned else self.size

    def has_size(self, width: float, height: float) -> bool:
        """Whether the image is loaded in this size; loading minds annotations of the image as stored too."""
        return (width, height) in (self.shown_size, self.size)


def look_at(path: str, decoded: bool = False) -> ImageFile:
    """Look at a file: at its header and its end, or, if it is to be ``decoded``, at all of it."""
    try:
        if decoded:
            with open(path, "rb") as file:
                return _decoded(file.read(), path)
        return _glimpsed(path)
    except FileNotFoundError:
        return ImageFile(State.MISSING, detail="there is no such file")
    except (OSError, ValueError) as error:  # the latter of names that no file can have
        return ImageFile(State.UNREADABLE, detail=str(getattr(error, "strerror", None) or error))


def look_at_all(paths: Sequence[str], track: Tracker, *, workers: int, decoded: bool = False) -> dict[str, ImageFile]:
    """Look at files, several at a time; see :func:`look_at`."""
    what = "Decoding images" if decoded else "Looking at image files"
    with ThreadPoolExecutor(workers) as pool:
        seen = pool.map(lambda path: look_at(path, decoded), paths)
        return dict(zip(paths, track(seen, len(paths), what), strict=True))


def same_content(files: dict[str, ImageFile], *, workers: int) -> list[list[str]]:
    """Return groups of paths whose files have the same content (the same pixels, where they were decoded)."""
    alike = defaultdict(list)
    for path, seen in files.items():
        if seen.sketch:
            alike[seen.sketch].append(path)
    suspects = [path for group in alike.values() if len(group) > 1 for path in group]
    with ThreadPoolExecutor(workers) as pool:
        contents = zip(suspects, pool.map(lambda path: _content(path, files[path]), suspects), strict=True)
    groups = defaultdict(list)
    for path, content in contents:
        groups[content].append(path)
    return [group for group in groups.values() if len(group) > 1]


def _content(path: str, seen: ImageFile) -> bytes:
    """What tells the content of a file from any other."""
    if not seen.sketch.startswith(b"head"):
        return seen.sketch
    with open(path, "rb") as file:
        return (
            hashlib.file_digest(file, "blake2b").digest() if hasattr(hashlib, "file_digest") else _digest(file.read())
        )


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data).digest()


def _glimpsed(path: str) -> ImageFile:
    """Look at the first and the last bytes of a file, and at all of it where they do not tell."""
    with open(path, "rb") as file:
        head = file.read(HEAD)
        length = os.fstat(file.fileno()).st_size
        file.seek(max(length - TAIL, 0))
        tail = file.read(TAIL)
        if lacks_end(head, tail) is not False:
            file.seek(0)
            return _whole(file.read(), path)
        seen = _header(head)
        if seen is None and length > HEAD:
            file.seek(0)
            seen = _header(file.read())
    if seen is None:
        return _unreadable(head)
    return ImageFile(State.WHOLE, *seen, sketch=b"head" + length.to_bytes(8, "big") + _digest(head + tail))


def _whole(data: bytes, path: str) -> ImageFile:
    """Look at all of a file of which its end does not tell whether it is whole."""
    if is_truncated(data):
        return ImageFile(State.TRUNCATED, detail=f"ends after {len(data):,} bytes, before the picture does")
    return _decoded(data, path, by_pixels=False)


def _decoded(data: bytes, path: str, by_pixels: bool = True) -> ImageFile:
    """Decode a file as training does; what tells it from others are its pixels, or else its bytes."""
    try:
        image = decode(data, path, "color", "cv2")
    except ValueError:
        if is_truncated(data):
            return ImageFile(State.TRUNCATED, detail=f"ends after {len(data):,} bytes, before the picture does")
        return _unreadable(data)
    size, is_turned = _header(data) or (image.shape[1::-1], False)
    sketch = _digest(np.array(image.shape).tobytes() + image.tobytes()) if by_pixels else _digest(data)
    return ImageFile(State.WHOLE, size, is_turned, sketch=sketch)


def _header(data: bytes) -> tuple[tuple[int, int], bool] | None:
    """Return width and height, and whether the EXIF tag swaps them."""
    try:
        with Image.open(io.BytesIO(data)) as image:
            # other formats are decoded for their tag
            is_turned = image.format in ("JPEG", "MPO") and image.getexif().get(_ORIENTATION, 1) in (5, 6, 7, 8)
            return image.size, is_turned
    except Exception:  # whatever a decoder trips over
        return None


def _unreadable(data: bytes) -> ImageFile:
    what = f"starts with {data[:8]!r}, unlike an image" if data else "is empty"
    return ImageFile(State.UNREADABLE, detail=what)
