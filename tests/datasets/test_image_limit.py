"""Images that say they are larger than allowed."""

import io
import struct
import zlib

import cv2
import numpy as np
import pytest
from PIL import Image

from densehead.datasets.image_limit import VARIABLE, require_decodable
from densehead.datasets.image_size import image_size
from densehead.datasets.transforms import LoadImageFromFile
from densehead.engine.hooks.visualization import read_rgb


def png(width, height):
    """A file of a few bytes that says it has so many pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def jpeg(width, height, before=b""):
    """A small image with another size in its header."""
    data = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    frame = data.index(b"\xff\xc0")
    return data[:frame] + before + data[frame : frame + 5] + struct.pack(">HH", height, width) + data[frame + 9 :]


def tiff(width, height):
    stream = io.BytesIO()
    Image.new("L", (1, 1)).save(stream, "TIFF")
    data = stream.getvalue()
    for tag, side in ((256, width), (257, height)):
        at = data.index(struct.pack("<H", tag))
        data = data[:at] + struct.pack("<HHII", tag, 4, 1, side) + data[at + 12 :]
    return data


BOMBS = {
    "png": png(100_000, 100_000),
    "jpg": jpeg(65_000, 65_000),
    "padded.jpg": jpeg(65_000, 65_000, before=b"\xff" * 3),
    "tif": tiff(100_000, 100_000),
}
SAID = r"bomb\.\w+.* is not read: (its header says|Image size \().*(10000000000|4225000000).* pixels.*(max_pixels|VARI)"
READERS = {
    "load": lambda path: LoadImageFromFile().transform({"img_path": path}),
    "load_reduced": lambda path: LoadImageFromFile(decode_reduced=True).transform({"img_path": path}),
    "load_pillow": lambda path: LoadImageFromFile(imdecode_backend="pillow").transform({"img_path": path}),
    "size": image_size,
    "draw": read_rgb,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("kind", BOMBS)
def test_bombs_are_refused_by_what_they_say(tmp_path, kind, reader):
    path = tmp_path / f"bomb.{kind}"
    path.write_bytes(BOMBS[kind])
    with pytest.raises(ValueError, match=SAID):
        READERS[reader](str(path))


def test_the_limit_can_be_said(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    assert cv2.imwrite(str(path), np.zeros((20, 30, 3), np.uint8))
    results = {"img_path": str(path)}
    with pytest.raises(ValueError, match=r"30 x 20, 600 pixels, and at most 599 are allowed"):
        LoadImageFromFile(max_pixels=599).transform(dict(results))
    monkeypatch.setenv(VARIABLE, "599")
    with pytest.raises(ValueError, match="at most 599"):
        image_size(str(path))
    assert LoadImageFromFile(max_pixels=600).transform(dict(results))["img_shape"] == (20, 30)
    monkeypatch.setenv(VARIABLE, "600")
    assert image_size(str(path)) == (20, 30)
    monkeypatch.setenv(VARIABLE, "many")
    with pytest.raises(ValueError, match=rf"{VARIABLE} must be a number of pixels.*'many'"):
        require_decodable(path.read_bytes(), "a.png")


@pytest.mark.parametrize("ending", [".jpg", ".png", ".bmp", ".tif", ".webp"])
def test_sizes_are_read_of_every_format(ending):
    data = cv2.imencode(ending, np.zeros((20, 30, 3), np.uint8))[1].tobytes()
    require_decodable(data, "a", 600)
    with pytest.raises(ValueError, match="30 x 20"):
        require_decodable(data, "a", 599)


def test_what_is_no_image_is_left_to_the_decoder():
    for data in (b"", b"nonsense", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"):
        require_decodable(data, "a", 1)
