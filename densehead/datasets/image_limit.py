"""How large an image may say that it is. A file of a kilobyte can claim gigabytes; what is larger is not decoded."""

from __future__ import annotations

import io
import os

from PIL import Image

#: Pixels of an image unless something else is said, as Pillow has it: half a gigabyte as BGR.
MAX_PIXELS = 178_956_970
#: The environment variable that says something else.
VARIABLE = "DENSEHEAD_MAX_IMAGE_PIXELS"
_PNG = b"\x89PNG\r\n\x1a\n"
_JPEG = b"\xff\xd8\xff"
_NO_FRAME = (0xC4, 0xC8, 0xCC)  # markers among those of JPEG's frames that are none
_ALONE = (0x01, *range(0xD0, 0xD9))  # markers without content


def pixel_limit() -> int:
    """Return how many pixels an image may have: :data:`MAX_PIXELS`, or what :data:`VARIABLE` says.

    Raises:
        ValueError: it says no positive integer.
    """
    text = os.environ.get(VARIABLE)
    if not text:
        return MAX_PIXELS
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"{VARIABLE} must be a number of pixels, such as {MAX_PIXELS}, but is {text!r}")
    return int(text)


def require_decodable(data: bytes, path: str, limit: int | None = None) -> None:
    """Refuse an image file that says it has more pixels than allowed; nothing is decoded for that.

    Args:
        data: the content of the file, of which PNG and JPEG are looked at here, other formats by Pillow (whose own
            limit, ``PIL.Image.MAX_IMAGE_PIXELS``, holds for them too).
        path: its name, for the message.
        limit: pixels; :func:`pixel_limit` if None.

    Raises:
        ValueError: names the file, its size and the limit.
    """
    size = _png_size(data) or _jpeg_size(data)
    if size is None:
        try:
            with Image.open(io.BytesIO(data)) as image:
                size = (image.height, image.width)
        except Image.DecompressionBombError as error:
            raise ValueError(f"the image {path!r} is not read: {error}. {_advice()}") from None
        except Exception:  # no image that Pillow knows; the decoder says what it is
            return
    require_size(*size, path, limit)


def require_size(height: int, width: int, path: str, limit: int | None = None) -> None:
    """Refuse a size, see :func:`require_decodable`."""
    limit = pixel_limit() if limit is None else limit
    if height * width > limit:
        raise ValueError(
            f"the image {path!r} is not read: its header says {width} x {height}, {height * width} pixels, and at most "
            f"{limit} are allowed. {_advice()}"
        )


def _advice() -> str:
    return f"Remove it, or if it is that large indeed, set max_pixels of LoadImageFromFile and {VARIABLE}"


def _png_size(data: bytes) -> tuple[int, int] | None:
    if not data.startswith(_PNG) or data[12:16] != b"IHDR":
        return None
    return int.from_bytes(data[20:24], "big"), int.from_bytes(data[16:20], "big")


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Return height and width of the first frame; None where the file is no JPEG, or one that needs a closer look."""
    if not data.startswith(_JPEG):
        return None
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        marker = data[place + 1]
        if 0xC0 <= marker <= 0xCF and marker not in _NO_FRAME:
            return int.from_bytes(data[place + 5 : place + 7], "big"), int.from_bytes(
                data[place + 7 : place + 9], "big"
            )
        if marker == 0xFF:  # padding
            place += 1
        elif marker in _ALONE:
            place += 2
        else:
            place += 2 + int.from_bytes(data[place + 2 : place + 4], "big")
    return None
