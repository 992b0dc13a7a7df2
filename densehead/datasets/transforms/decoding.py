"""Decoding image files: whole ones only, and JPEGs at a part of their size where no more is wanted."""

from __future__ import annotations

import io
import math
from dataclasses import dataclass

import cv2
import mmcv
import numpy as np
from PIL import Image

from densehead.datasets.image_size import read_header

# How a complete file starts and ends. Some decoders fill what is missing with grey and say nothing to the caller.
_ENDS = {b"\xff\xd8": b"\xff\xd9", b"\x89PNG": b"IEND\xaeB`\x82"}
#: How many bytes at the end of a file are looked through for the end of its picture.
TAIL = 64
_JPEG = b"\xff\xd8\xff"
_PARTS = (8, 4, 2)  # of the sides; what JPEG's 8 x 8 blocks can be decoded to
#: Colour types that can be decoded at reduced size.
REDUCIBLE = ("color", "grayscale", "color_ignore_orientation", "grayscale_ignore_orientation")


@dataclass(frozen=True, eq=False)
class UndecodedImage:
    """A JPEG file in the place of its image, for the transform that knows how large it is wanted.

    Any use as an array is an error that says so: nothing goes on with a picture that is not there.

    Attributes:
        data: the file's bytes.
        path: its name, for messages.
        color_type: as mmcv names it.
        dtype: of the image.
        size: height and width of the whole image, as its EXIF tag turns it (unless the colour type ignores that).
    """

    data: bytes
    path: str
    color_type: str
    dtype: type
    size: tuple[int, int]

    @classmethod
    def of(cls, data: bytes, path: str, color_type: str, dtype: type) -> UndecodedImage | None:
        """Return one, or None where the file is no whole JPEG."""
        if not data.startswith(_JPEG) or is_truncated(data):
            return None
        try:
            header = read_header(io.BytesIO(data))
        except Exception:  # a header that only the decoder may understand
            return None
        size = (header.height, header.width)
        if header.is_turned and not color_type.endswith("ignore_orientation"):
            size = size[::-1]
        return cls(data, path, color_type, dtype, size)

    def decode(self, height: float, width: float) -> tuple[np.ndarray, int]:
        """Decode at the smallest size that is not below ``height`` and ``width``.

        Returns:
            The image, and 1, 2, 4 or 8: its pixels are squares of so many pixels of the whole image (those at the
            right and lower border may reach beyond it).
        """
        for part in _PARTS:
            size = tuple(math.ceil(side / part) for side in self.size)
            if size[0] >= height and size[1] >= width:
                image = decode(self.data, self.path, _reduced(self.color_type, part), "cv2")
                if image.shape[:2] == size:  # a decoder that does not reduce, or turns otherwise, is not relied on
                    return image.astype(self.dtype, copy=False), part
        image = decode(self.data, self.path, self.color_type, "cv2")
        return image.astype(self.dtype, copy=False), 1

    def __getattr__(self, name: str):
        if name.startswith("__"):  # what copying and pickling ask for
            raise AttributeError(name)
        raise self._too_early()

    def __getitem__(self, index):
        raise self._too_early()

    def __array__(self, *args, **kwargs):
        raise self._too_early()

    def _too_early(self) -> ValueError:
        return ValueError(
            "LoadImageFromFile.decode_reduced=True leaves the decoding to the Resize, RandomResize, "
            "RandomChoiceResize or RandomWarp of densehead that follows, but another transform asks for the image "
            f"{self.path!r} before: put one of those first after loading, or remove decode_reduced"
        )


def decode(data: bytes, path: str, flag: str | int, backend: str | None) -> np.ndarray:
    """Decode a whole image.

    Args:
        data: the file's bytes.
        path: its name, for messages.
        flag: a colour type of mmcv's, or a flag of OpenCV's.
        backend: of mmcv's.

    Raises:
        ValueError: it is empty, truncated, or no image.
    """
    try:
        image = mmcv.imfrombytes(data, flag=flag, backend=backend)
    except Exception as error:  # each backend raises its own kind
        raise ValueError(_unreadable(path, data)) from error
    if image is None or is_truncated(data):
        raise ValueError(_unreadable(path, data))
    return image


def is_truncated(data: bytes) -> bool:
    """Whether a JPEG or PNG file ends before its picture does."""
    if lacks_end(data, data[-TAIL:]):
        try:
            with Image.open(io.BytesIO(data)) as image:
                image.load()
        except Image.DecompressionBombError:  # larger than Pillow likes, which LoadImageFromFile.max_pixels allows
            return False
        except (OSError, SyntaxError):
            return True
    return False


def lacks_end(head: bytes, tail: bytes) -> bool | None:
    """Whether a JPEG or PNG file does not end as a whole one does, by its first and its last :data:`TAIL` bytes.

    A file may still be whole, with something else behind the picture. None for other formats, whose end is not marked.
    """
    return next((end not in tail for start, end in _ENDS.items() if head.startswith(start)), None)


def _reduced(color_type: str, part: int) -> int:
    """Return OpenCV's flag."""
    kind, _, ignored = color_type.partition("_")
    flag = getattr(cv2, f"IMREAD_REDUCED_{kind.upper()}_{part}")
    return flag | cv2.IMREAD_IGNORE_ORIENTATION if ignored else flag


def _unreadable(path: str, data: bytes) -> str:
    """The message for a file that cannot be decoded."""
    if is_truncated(data):
        what = "is truncated: it ends before the picture does"
    else:
        what = f"starts with {data[:8]!r}, unlike an image" if data else "is empty"
    return (
        f"the image {path!r} cannot be read: the file of {len(data)} bytes {what}. Copy it again, or replace it by an "
        "image (JPEG, PNG, ...), or remove it from the annotation file"
    )
