from __future__ import annotations

import io
import os

import cv2
import numpy as np
import pytest
from PIL import Image

from densehead.datasets import image_size as module
from densehead.datasets.image_size import image_size, in_threads, loaded_size, read_header


def picture(kind, orientation=None, height=20, width=40):
    exif = Image.Exif()
    if orientation is not None:
        exif[0x0112] = orientation
    file = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(file, kind, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", [None, 1, 2, 3, 4, 5, 6, 7, 8])
def test_the_size_is_that_of_the_loaded_image(kind, orientation):
    data = picture(kind, orientation)
    loaded = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert loaded_size(io.BytesIO(data), "a") == loaded.shape[:2]


def test_a_header_and_what_it_is_turned_by():
    header = read_header(io.BytesIO(picture("JPEG", 6)))
    assert header == (20, 40, 6, "JPEG")
    assert header.is_turned
    assert not read_header(io.BytesIO(picture("JPEG"))).is_turned


def test_a_jpeg_is_not_decoded(monkeypatch):
    monkeypatch.setattr(module.cv2, "imdecode", None)
    data = picture("JPEG", 6)
    assert loaded_size(io.BytesIO(data[:-10]), "a") == (40, 20)


def test_a_file_is_read_once_until_it_changes(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    path.write_bytes(picture("PNG"))
    assert image_size(str(path)) == (20, 40)
    with monkeypatch.context() as patch:
        patch.setattr(module, "read_header", None)
        assert image_size(str(path)) == (20, 40)
    path.write_bytes(picture("PNG", height=30))
    os.utime(path, (1, 1))
    assert image_size(str(path)) == (30, 40)


@pytest.mark.parametrize(("data", "what"), [(b"", "0 bytes is empty"), (b"no picture", "starts with b'no pictu'")])
def test_what_is_no_image_is_named(tmp_path, data, what):
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=rf"the image '.*a\.jpg' cannot be read for its size: the file of .*{what}"):
        image_size(str(path))


@pytest.mark.parametrize("count", [0, 5, 1000])
def test_threads_keep_the_order(count):
    assert list(in_threads(lambda one: one + 1, range(count))) == list(range(1, count + 1))


def test_the_first_error_of_the_threads_is_raised():
    def fail(one):
        if one in (300, 900):
            raise ValueError(str(one))

    with pytest.raises(ValueError, match="300"):
        list(in_threads(fail, range(1000)))
