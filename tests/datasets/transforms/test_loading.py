from __future__ import annotations

import io

import mmcv
import numpy as np
import pytest
from PIL import Image

from densehead.datasets.transforms import LoadImageFromFile
from densehead.datasets.transforms.decoding import is_truncated


@pytest.fixture
def load(build):
    return lambda path, info=None, **keys: build("LoadImageFromFile", **keys)({"img_path": str(path), **(info or {})})


def test_an_image_is_bgr_with_its_shapes(load, picture, tmp_path):
    image = picture(tmp_path / "a.png")
    results = load(tmp_path / "a.png")
    assert (results["img"] == image).all()
    assert results["img_shape"] == results["ori_shape"] == (60, 80)
    assert load(tmp_path / "a.png", to_float32=True)["img"].dtype == np.float32


def test_a_missing_image_is_named(load, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"the image '.*a\.jpg' does not exist\. Check data_root"):
        load(tmp_path / "a.jpg")
    with pytest.raises(FileNotFoundError, match=r"Its folder '.*images' does not exist"):
        load(tmp_path / "images" / "a.jpg")
    assert load(tmp_path / "a.jpg", ignore_empty=True) is None


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"", "the file of 0 bytes is empty"), (b"<html>no</html>", r"15 bytes starts with b'<html>no'")],
)
def test_a_file_that_is_no_image_is_named(load, tmp_path, data, message):
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(ValueError, match=rf"the image '.*a\.jpg' cannot be read: .*{message}"):
        load(tmp_path / "a.jpg")
    assert load(tmp_path / "a.jpg", ignore_empty=True) is None


@pytest.mark.parametrize("suffix", ["jpg", "png"])
@pytest.mark.parametrize("part", [0.3, 0.6, 0.9])
def test_a_truncated_image_is_named(load, picture, tmp_path, suffix, part, monkeypatch):
    path = tmp_path / f"a.{suffix}"
    image = picture(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    match = rf"the image '.*a\.{suffix}' cannot be read: the file of \d+ bytes is truncated"
    with pytest.raises(ValueError, match=match):
        load(path)
    # some versions of the decoders give what there is of the picture
    monkeypatch.setattr(mmcv, "imfrombytes", lambda *_, **__: image)
    with pytest.raises(ValueError, match=match):
        load(path)


@pytest.mark.parametrize("progressive", [False, True])
def test_whole_images_are_not_taken_for_truncated(picture, tmp_path, progressive):
    image = Image.fromarray(picture(tmp_path / "a.png"))
    whole = io.BytesIO()
    image.save(whole, "JPEG", progressive=progressive)
    data = whole.getvalue()
    assert not is_truncated(data)
    assert not is_truncated(data + bytes(1000))  # some cameras append
    assert is_truncated(data[: len(data) // 2])
    assert is_truncated(data[: len(data) // 2] + bytes(1000)) or progressive


def turned_image(path, orientation=6):
    """Write a picture 80 wide and 60 high with an EXIF tag that says to turn it; return it."""
    image = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    exif = Image.Exif()
    exif[274] = orientation
    Image.fromarray(image[..., ::-1]).save(path, exif=exif)
    return image


def test_an_image_annotated_unturned_is_loaded_unturned(load, tmp_path, said):
    image = turned_image(tmp_path / "a.png")
    assert load(tmp_path / "a.png")["img"].shape == (80, 60, 3)
    assert load(tmp_path / "a.png", {"height": 80, "width": 60})["img"].shape == (80, 60, 3)
    assert (load(tmp_path / "a.png", {"height": 60, "width": 80})["img"] == image).all()
    assert said == []


def test_another_size_than_annotated_is_said_once(load, picture, tmp_path, said, monkeypatch):
    monkeypatch.setattr(LoadImageFromFile, "_said_size", False)
    picture(tmp_path / "a.png")
    for _ in range(2):
        results = load(tmp_path / "a.png", {"height": 30, "width": 40})
        assert (results["height"], results["width"]) == (60, 80)
    assert len(said) == 1
    assert "a.png' is 80 x 60 pixels, but annotated as 40 x 30" in said[0]


def test_the_old_key_is_answered(build):
    with pytest.raises(ValueError, match="use backend_args"):
        build("LoadImageFromFile", file_client_args={"backend": "disk"})


def test_an_array_is_taken_as_image(build):
    image = np.zeros((5, 6, 3), np.uint8)
    results = build("LoadImageFromNDArray", to_float32=True)({"img": image})
    assert results["img"].dtype == np.float32
    assert results["img_shape"] == results["ori_shape"] == (5, 6)
    assert results["img_path"] is None


def test_annotations_become_arrays(build):
    instances = [
        {"bbox": [1, 2, 3, 4], "bbox_label": 5, "ignore_flag": 0},
        {"bbox": [0.5, 2, 3, 4], "bbox_label": 1, "ignore_flag": 1},
    ]
    results = build("LoadAnnotations", with_bbox=True)({"instances": instances})
    assert results["gt_bboxes"].tolist() == [[1, 2, 3, 4], [0.5, 2, 3, 4]]
    assert results["gt_bboxes"].dtype == np.float32
    assert results["gt_bboxes_labels"].tolist() == [5, 1]
    assert results["gt_bboxes_labels"].dtype == np.int64
    assert results["gt_ignore_flags"].tolist() == [False, True]


@pytest.mark.parametrize("results", [{}, {"instances": []}])
def test_no_annotations_become_empty_arrays(build, results):
    results = build("LoadAnnotations", box_type=None)(results)
    assert results["gt_bboxes"].shape == (0, 4)
    assert results["gt_bboxes_labels"].shape == results["gt_ignore_flags"].shape == (0,)


def test_parts_of_the_annotations(build):
    instances = [{"bbox": [1, 2, 3, 4], "bbox_label": 5}]
    assert set(build("LoadAnnotations", with_label=False)({"instances": instances})) == {
        "instances",
        "gt_bboxes",
        "gt_ignore_flags",
    }
    assert "gt_bboxes" not in build("LoadAnnotations", with_bbox=False)({"instances": instances})


@pytest.mark.parametrize("keys", [{"with_mask": True}, {"with_seg": True}, {"box_type": "rbox"}])
def test_what_is_no_box_is_refused(build, keys):
    with pytest.raises(ValueError, match="LoadAnnotations"):
        build("LoadAnnotations", **keys)
