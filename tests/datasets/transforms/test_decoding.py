"""Decoding JPEGs at a part of their size, against decoding them whole."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import cv2
import mmcv
import numpy as np
import pytest
from mmcv.transforms import Compose
from PIL import Image

from densehead.datasets.transforms import decoding
from densehead.datasets.transforms.decoding import UndecodedImage
from densehead.registry import TRANSFORMS

BOXES = [[10.0, 20.0, 200.3, 150.7], [100.1, 30.2, 300.9, 239.0]]
META = ("ori_shape", "img_shape", "scale_factor", "flip", "img_path")


def smooth(height: int, width: int) -> np.ndarray:
    """A picture without noise, so that what differs by a fraction of a pixel differs little."""
    coarse = np.random.default_rng(0).integers(0, 256, (height // 80 + 2, width // 80 + 2, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


@pytest.fixture
def file(tmp_path):
    """Write a smooth picture, 320 wide and 240 high if not said, and return its name."""

    def write(name="a.jpg", height=240, width=320, orientation=None, **keys) -> str:
        exif = Image.Exif()
        if orientation is not None:
            exif[274] = orientation
        Image.fromarray(smooth(height, width)).save(tmp_path / name, exif=exif, **keys)
        return str(tmp_path / name)

    return write


def run(path: str, steps: list[dict], *, loading: dict, seed: int = 0, **info) -> dict:
    """Load with the keys ``loading`` and go through ``steps``."""
    np.random.seed(seed)
    steps = [dict(type="LoadImageFromFile", **loading), dict(type="LoadAnnotations"), *steps]
    instances = [dict(bbox=list(box), bbox_label=label) for label, box in enumerate(BOXES)]
    return Compose([TRANSFORMS.build(step) for step in steps])({"img_path": path, "instances": instances, **info})


def both(path: str, steps: list[dict], loading: dict | None = None, **info) -> tuple[dict, dict]:
    """The results of decoding whole, and of decoding reduced; all but the pixels must be the same."""
    loading = loading or {}
    whole = run(path, copy.deepcopy(steps), loading=loading, **info)
    reduced = run(path, copy.deepcopy(steps), loading={**loading, "decode_reduced": True}, **info)
    assert set(whole) == set(reduced)
    for key in whole:
        if key == "warp_matrix" or key.startswith("gt_"):
            np.testing.assert_array_equal(whole[key], reduced[key], strict=True)
        elif key != "img":
            assert whole[key] == reduced[key], key
    assert (whole["img"].shape, whole["img"].dtype) == (reduced["img"].shape, reduced["img"].dtype)
    return whole, reduced


def difference(whole: dict, reduced: dict) -> float:
    """Median difference of the pixels, grey levels; a shift by half a pixel of a reduced image would be 2 and more."""
    return float(np.median(np.abs(whole["img"].astype(float) - reduced["img"].astype(float))))


@pytest.fixture
def flags(monkeypatch) -> list:
    """The flags that images are decoded with."""
    seen, imfrombytes = [], mmcv.imfrombytes
    monkeypatch.setattr(mmcv, "imfrombytes", lambda data, flag, backend: seen.append(flag) or imfrombytes(data, flag))
    return seen


@pytest.mark.parametrize(
    ("scale", "keep_ratio", "part"),
    [
        ((320, 240), True, 1),
        ((400, 300), True, 1),
        ((162, 120), False, 1),
        ((160, 121), False, 1),
        ((160, 120), True, 2),
        ((100, 100), True, 2),
        ((60, 120), False, 2),
        ((80, 60), True, 4),
        ((50, 45), True, 4),
        ((40, 30), True, 8),
        ((9, 7), True, 8),
    ],
)
def test_resized_images_are_decoded_at_the_smallest_size_that_will_do(file, flags, scale, keep_ratio, part):
    steps = [dict(type="Resize", scale=scale, keep_ratio=keep_ratio), dict(type="RandomFlip", prob=0.5)]
    whole, reduced = both(file(), steps)
    expected = "color" if part == 1 else getattr(cv2, f"IMREAD_REDUCED_COLOR_{part}")
    assert flags == ["color", expected]
    assert difference(whole, reduced) < (1.5 if part > 1 else 1e-9)


# the grid of 1/2, 1/4, 1/8 begins at the left upper corner and ends beyond the right lower one, by up to 7 pixels
@pytest.mark.parametrize("size", [(233, 313), (234, 315), (239, 319)])
@pytest.mark.parametrize("scale", [(150, 110), (75, 54), (37, 27), (24, 20)])
def test_sides_that_do_not_divide(file, flags, size, scale):
    height, width = size
    whole, reduced = both(file("odd.jpg", *size), [dict(type="Resize", scale=scale, keep_ratio=True)])
    assert flags[1] != "color"
    assert reduced["scale_factor"] == (reduced["img"].shape[1] / width, reduced["img"].shape[0] / height)
    assert difference(whole, reduced) < 1.5


@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "area", "lanczos"])
@pytest.mark.parametrize("width", [319, 320])
def test_every_interpolation(file, flags, width, interpolation):
    resize = dict(type="Resize", scale=(150, 110), keep_ratio=True, interpolation=interpolation)
    whole, reduced = both(file(width=width), [resize])
    assert flags[1] == cv2.IMREAD_REDUCED_COLOR_2
    assert difference(whole, reduced) < 3  # the nearest of the whole image's pixels may be half a reduced one away


def test_pillow_gets_whole_images(file, flags):
    resize = dict(type="Resize", scale=(80, 60), backend="pillow", interpolation="box")
    whole, reduced = both(file(), [resize])
    assert flags == ["color", "color"]
    assert (whole["img"] == reduced["img"]).all()


@pytest.mark.parametrize("step", [dict(scale_factor=0.5), dict(scale_factor=(0.25, 0.3))])
def test_resize_by_a_factor(file, flags, step):
    whole, reduced = both(file(), [dict(type="Resize", **step)])
    assert flags[1] == cv2.IMREAD_REDUCED_COLOR_2
    assert difference(whole, reduced) < 1.5


def test_the_size_that_is_drawn_decides(file, flags):
    resize = dict(type="RandomChoiceResize", scales=[(320, 240), (160, 120), (80, 60)], keep_ratio=True)
    path = file()
    for seed in range(8):
        whole, reduced = both(path, [resize], seed=seed)
        assert difference(whole, reduced) < 1.5
    assert {cv2.IMREAD_REDUCED_COLOR_2, cv2.IMREAD_REDUCED_COLOR_4, "color"} <= set(flags[1::2])
    jitter = dict(type="RandomResize", scale=(320, 240), ratio_range=(0.05, 0.6), keep_ratio=True)
    for seed in range(8):
        assert difference(*both(path, [jitter], seed=seed)) < 1.5
    assert cv2.IMREAD_REDUCED_COLOR_8 in flags


def test_all_views_of_an_image_are_decoded(file):
    steps = [[dict(type="Resize", scale=scale, keep_ratio=True) for scale in [(160, 120), (320, 240)]]]
    views = dict(type="TestTimeAug", transforms=[*steps, [dict(type="PackDetInputs", meta_keys=META)]])
    whole, reduced = (run(file(), [views], loading=dict(decode_reduced=one)) for one in (False, True))
    for one, other in zip(whole["inputs"], reduced["inputs"], strict=True):
        assert one.shape == other.shape
        assert (one.float() - other.float()).abs().mean() < 1.5


@pytest.mark.parametrize("pixel_centers", [True, False])
@pytest.mark.parametrize(
    ("keys", "part"),
    [
        (dict(size=(160, 120)), 2),
        (dict(size=(80, 60), keep_ratio=True, divisible=32), 2),
        (dict(size=(60, 60), scale=(0.6, 1.4), rotation=20, shear=5, translate=0.2, flip=0.5), 2),
        (dict(size=(32, 24), stretch=((0.9, 1.0), (0.8, 1.0)), flip=0.5), 8),
        (dict(size=(160, 120), scale=(1.1, 1.2)), 1),
        (dict(size=(80, 60), perspective=0.0005), 1),
    ],
)
def test_warped_images_lie_where_they_lay(file, flags, keys, part, pixel_centers):
    whole, reduced = both(file(), [dict(type="RandomWarp", pixel_centers=pixel_centers, **keys)])
    assert flags[1] == ("color" if part == 1 else getattr(cv2, f"IMREAD_REDUCED_COLOR_{part}"))
    assert difference(whole, reduced) < (1.5 if part > 1 else 1e-9)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("color_type", ["color", "color_ignore_orientation"])
def test_the_exif_tag_turns_as_before(file, flags, orientation, color_type):
    path = file(orientation=orientation)
    resize = [dict(type="Resize", scale=(150, 150), keep_ratio=True)]
    whole, reduced = both(path, resize, dict(color_type=color_type))
    assert isinstance(flags[1], int)
    assert difference(whole, reduced) < 1.5
    assert whole["ori_shape"] == ((320, 240) if orientation > 4 and color_type == "color" else (240, 320))


@pytest.mark.parametrize("annotated", [(240, 320), (320, 240)])
def test_an_image_annotated_unturned_is_loaded_unturned(file, flags, annotated):
    info = dict(height=annotated[0], width=annotated[1])
    whole, reduced = both(file(orientation=6), [dict(type="Resize", scale=(150, 150), keep_ratio=True)], **info)
    assert reduced["ori_shape"] == annotated
    assert difference(whole, reduced) < 1.5
    # as its tag turns it: reduced; else decoded whole, since the turning is not known before
    assert isinstance(flags[-1], int) == (annotated == (320, 240))


@pytest.mark.parametrize("keys", [dict(progressive=True), dict(quality=30), dict(subsampling=0)])
def test_other_kinds_of_jpeg(file, keys):
    assert difference(*both(file(**keys), [dict(type="Resize", scale=(100, 100), keep_ratio=True)])) < 1.5


def test_gray_images_and_floats(file, flags):
    resize = [dict(type="Resize", scale=(80, 60), keep_ratio=True)]
    whole, reduced = both(file(), resize, dict(color_type="grayscale", to_float32=True))
    assert flags[1] == cv2.IMREAD_REDUCED_GRAYSCALE_4
    assert reduced["img"].shape == (60, 80)
    assert reduced["img"].dtype == np.float32
    assert difference(whole, reduced) < 1.5


@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.webp"])
def test_other_formats_are_decoded_whole(file, flags, name):
    whole, reduced = both(file(name), [dict(type="Resize", scale=(80, 60), keep_ratio=True)])
    assert flags == ["color", "color"]
    assert (whole["img"] == reduced["img"]).all()


def test_a_decoder_that_gives_another_size_is_not_relied_on(file, monkeypatch):
    path = file()
    monkeypatch.setattr(decoding, "_reduced", lambda color_type, part: cv2.IMREAD_COLOR)
    whole, reduced = both(path, [dict(type="Resize", scale=(80, 60), keep_ratio=True)])
    assert (whole["img"] == reduced["img"]).all()


@pytest.mark.parametrize("part", [0.3, 0.9])
def test_a_truncated_image_is_named_when_it_is_loaded(file, build, part):
    path = Path(file())
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * part)])
    with pytest.raises(ValueError, match="is truncated"):
        build("LoadImageFromFile", decode_reduced=True)({"img_path": str(path)})
    assert build("LoadImageFromFile", decode_reduced=True, ignore_empty=True)({"img_path": str(path)}) is None


@pytest.mark.parametrize(
    "step",
    [
        dict(type="RandomFlip", prob=1.0),
        dict(type="RandomCrop", crop_size=(10, 10)),
        dict(type="Expand", prob=1.0),
        dict(type="MinIoURandomCrop"),
        dict(type="PhotoMetricDistortion"),
        dict(type="RandomColorJitter"),
        dict(type="Pad", size=(400, 400)),
        dict(type="PackDetInputs"),
        dict(type="mmcv.Resize", scale=(80, 60)),
    ],
)
def test_no_other_transform_takes_the_file_for_an_image(file, step):
    message = (
        r"decode_reduced=True leaves the decoding to the Resize, .* image '.*a\.jpg' before: put one of those first"
    )
    with pytest.raises(ValueError, match=message):
        run(file(), [step], loading=dict(decode_reduced=True))


def test_an_undecoded_image_can_be_copied_and_sent(file):
    data = Path(file()).read_bytes()
    image = UndecodedImage.of(data, "a.jpg", "color", np.uint8)
    for same in (copy.deepcopy(image), copy.copy(image), pickle.loads(pickle.dumps(image))):
        assert (same.data, same.size) == (data, (240, 320))
    with pytest.raises(ValueError, match="decode_reduced"):
        np.asarray(image)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (dict(decode_reduced="yes"), "decode_reduced must be True or False, but got 'yes'"),
        (
            dict(decode_reduced=True, imdecode_backend="pillow"),
            r"needs imdecode_backend='cv2' .* got 'pillow'",
        ),
        (dict(decode_reduced=True, color_type="unchanged"), r"a color_type of \('color', .* got 'cv2' and 'unchanged'"),
    ],
)
def test_keys_that_cannot_be(build, keys, message):
    with pytest.raises(ValueError, match=message):
        build("LoadImageFromFile", **keys)


def test_an_array_needs_no_decoding(build):
    """The key may stay where a program hands over arrays."""
    image = np.zeros((5, 6, 3), np.uint8)
    results = build("LoadImageFromNDArray", decode_reduced=True)({"img": image})
    assert results["img"] is image
