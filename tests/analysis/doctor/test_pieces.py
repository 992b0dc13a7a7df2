"""Parts of the doctor against slower ways to the same."""

import itertools
import os

import cv2
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData
from PIL import Image

from densehead.analysis.doctor.boxes import NEAR_IOU, SAME_IOU, same_boxes
from densehead.analysis.doctor.cost import measure_step, small_size
from densehead.analysis.doctor.expectation import peak_of_step
from densehead.analysis.doctor.findings import Example, Finding, Severity
from densehead.analysis.doctor.image_files import State, look_at, same_content
from densehead.analysis.doctor.levels import LevelRule
from densehead.analysis.doctor.page import Checkup, Section, render
from densehead.models.assigners import FCOSAssigner
from densehead.models.priors import MlvlPointGenerator
from densehead.ops import pairwise_iou
from densehead.registry import MODELS
from densehead.structures import Targets
from tests.analysis.doctor.scenes import config, picture
from tests.memory import PeakMemory, needs_peak_memory


def test_same_boxes_are_those_of_all_pairs():
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 60, (40, 2)).astype(np.float64)
    boxes = np.concatenate([corner, corner + rng.integers(1, 150, (40, 2))], 1)
    boxes = np.concatenate([boxes, boxes + rng.uniform(-3, 3, boxes.shape) * rng.integers(0, 2, (40, 1))])
    images = np.tile(rng.integers(0, 3, 40), 2)
    iou = pairwise_iou(torch.from_numpy(boxes), torch.from_numpy(boxes)).numpy()
    expected = set()
    for first, second in itertools.combinations(range(80), 2):
        is_exact = bool((np.abs(boxes[first] - boxes[second]) <= 1).all())
        if images[first] == images[second] and iou[first, second] >= (SAME_IOU if is_exact else NEAR_IOU):
            expected.add((first, second, is_exact))
    assert {one[2] for one in expected} == {True, False}
    found = list(zip(*(column.tolist() for column in same_boxes(boxes, images)), strict=True))
    assert set(found) == expected
    assert len(found) == len(expected)


def test_no_boxes():
    assert [len(column) for column in same_boxes(np.zeros((0, 4)), np.zeros(0, np.int64))] == [0, 0, 0]


def test_the_level_of_an_object_is_that_of_the_point_at_its_centre():
    ranges = ((-1, 8), (8, 16), (16, 32), (32, 1e8))
    head = MODELS.build(
        {
            "type": "FCOSHead",
            "num_classes": 1,
            "in_channels": 8,
            "feat_channels": 8,
            "stacked_convs": 0,
            "strides": [8, 16, 32, 64],
            "regress_ranges": ranges,
        }
    )
    rule = LevelRule.of(head)
    rng = np.random.default_rng(0)
    sizes = rng.uniform(8, 100, (30, 2))
    priors = MlvlPointGenerator([8, 16, 32, 64]).priors([(16, 16), (8, 8), (4, 4), (2, 2)])
    levels = rule.levels(sizes)
    assert set(levels.tolist()) == {0, 1, 2, 3}
    for (width, height), level in zip(sizes, levels, strict=True):
        grid = priors.grids[level]
        # a point of that level, and the object around it
        x, y = grid.x0 + grid.stride_x * (grid.width // 2), grid.y0 + grid.stride_y * (grid.height // 2)
        box = torch.tensor([[x - width / 2, y - height / 2, x + width / 2, y + height / 2]], dtype=torch.float32)
        targets = Targets.from_instances([InstanceData(bboxes=box, labels=torch.zeros(1, dtype=torch.long))])
        assignment = FCOSAssigner(ranges)(priors, targets)
        hit = assignment.is_positive[0] & (priors.points == torch.tensor([x, y])).all(1)
        assert priors.level_index[hit].tolist() == [level]


def anchor_rule(**keys):
    generator = {"type": "AnchorGenerator", "ratios": [1.0], "strides": [8, 16, 32], "octave_base_scale": 8}
    cfg = {"type": "GFLHead", "num_classes": 1, "in_channels": 8, "feat_channels": 8, "stacked_convs": 0}
    return LevelRule.of(MODELS.build({**cfg, "anchor_generator": {**generator, "scales_per_octave": 1}, **keys}))


def test_anchors_take_objects_of_their_size_and_reach_so_many_strides():
    rule = anchor_rule(reg_max=4)
    assert [one.tolist() for one in rule.anchors] == [[64], [128], [256]]
    # the middle between anchors is at 64 * sqrt(2) = 90.5
    sizes = np.array([[5, 5], [90, 90], [91, 91], [400, 20], [1000, 900]], dtype=np.float64)
    levels = rule.levels(sizes)
    assert levels.tolist() == [0, 0, 1, 0, 2]
    assert rule.reach(levels).tolist() == [32, 32, 64, 32, 128]
    assert anchor_rule(reg_max=16).reach(levels).tolist() == [128, 128, 256, 128, 512]


def test_a_head_whose_rule_looks_at_predictions_has_no_levels_of_its_own():
    cfg = {"type": "NanoDetPlusHead", "num_classes": 1, "in_channels": 8, "feat_channels": 8, "reg_max": 7}
    rule = LevelRule.of(MODELS.build(cfg))
    assert rule.levels(np.ones((3, 2))) is None
    assert rule.reach(None) == 7 * 64


# ---- image files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tif"])
def test_whole_and_cut_off_files(tmp_path, suffix):
    path = tmp_path / f"a.{suffix}"
    cv2.imwrite(str(path), picture("a", 300, 200))
    for decoded in (False, True):
        seen = look_at(str(path), decoded)
        assert (seen.state, seen.size) == (State.WHOLE, (300, 200))
    path.write_bytes(path.read_bytes()[:-4000])
    for decoded in (False, True):
        assert look_at(str(path), decoded).state in (State.TRUNCATED, State.UNREADABLE)


def test_a_long_header_is_read(tmp_path):
    """An EXIF entry longer than what is read at first."""
    path = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "x" * 60000
    icc = b"y" * 50000
    Image.fromarray(picture("a", 120, 80)).save(path, exif=exif, icc_profile=icc)
    seen = look_at(str(path))
    assert (seen.state, seen.size, seen.shown_size) == (State.WHOLE, (120, 80), (80, 120))
    assert seen.has_size(120, 80)
    assert seen.has_size(80, 120)
    assert not seen.has_size(80, 80)


def test_bytes_behind_the_picture_do_no_harm(tmp_path):
    path = tmp_path / "a.jpg"
    cv2.imwrite(str(path), picture("a"))
    path.write_bytes(path.read_bytes() + bytes(200))
    assert look_at(str(path)).state is State.WHOLE


def test_files_that_differ_in_the_middle_are_not_the_same(tmp_path):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (300, 300, 3), dtype=np.uint8)
    other = image.copy()
    other[290, 100] = 255 - other[290, 100]
    paths = [str(tmp_path / name) for name in ("a.bmp", "b.bmp", "c.bmp")]
    for path, pixels in zip(paths, (image, other, image), strict=True):
        Image.fromarray(pixels).save(path)
    assert os.path.getsize(paths[0]) == os.path.getsize(paths[1]) > 2 * (1 << 16)
    files = {path: look_at(path) for path in paths}
    assert same_content(files, workers=1) == [[paths[0], paths[2]]]


# ---- memory ----------------------------------------------------------------------------------------------------------


def small_detector(root):
    model = config(root, "coco").model
    model.neck.out_channels = model.bbox_head.in_channels = model.bbox_head.feat_channels = 32
    return MODELS.build(model)


@needs_peak_memory
def test_memory_is_what_a_step_takes(tmp_path):
    """Estimated from a small step, for a step on more and larger images."""
    model = small_detector(tmp_path)
    small = measure_step(model, 2, 128, 128, 3, "cpu", None)
    trained = sum(one.nbytes for one in model.parameters())
    for images, height, width in ((1, 64, 64), (3, 192, 128), (4, 192, 320)):
        kept, _ = small.of_pixels(images * height * width)
        with PeakMemory() as memory:
            measure_step(model, images, height, width, 3, "cpu", None)
        assert memory.peak == pytest.approx(peak_of_step(kept, trained), rel=0.1)


def test_weights_stay_as_they_are(tmp_path):
    model = small_detector(tmp_path)
    before = {name: value.clone() for name, value in model.named_parameters()}
    measure_step(model, 2, 64, 64, 3, "cpu", None)
    for name, value in model.named_parameters():
        torch.testing.assert_close(value, before[name])
        assert value.grad is None


def test_small_steps_have_the_form_of_large_ones():
    assert small_size(800, 1344) == (128, 256)
    assert small_size(64, 64) == (64, 64)
    assert small_size(40, 30) == (64, 64)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_memory_of_a_gpu_is_measured(tmp_path):
    model = small_detector(tmp_path)
    cost = measure_step(model, 2, 128, 128, 3, "cuda", None)
    trained = sum(one.nbytes for one in model.parameters())
    assert cost.peak > 2 * trained + cost.activations


def test_what_a_terminal_would_obey_is_escaped():
    finding = Finding("config", Severity.ERROR, "class \x1b]0;name\x07", examples=(Example("a\nb.jpg", "\ud800"),))
    table = Section("classes", "Classes", ("class",), [("c\x1b[2Jt",)])
    text = render(Checkup("the config", [finding], [table]))
    assert all(letter.isprintable() for letter in text.replace("\n", ""))
    for escaped in (r"class \x1b]0;name\x07", r"a\nb.jpg, \ud800", r"c\x1b[2Jt"):
        assert escaped in text
