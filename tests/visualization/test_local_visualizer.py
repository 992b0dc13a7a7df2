from __future__ import annotations

import copy
import math

import mmcv
import numpy as np
import pytest
import torch
from mmengine.structures import InstanceData

from densehead.registry import VISUALIZERS
from densehead.structures import DetDataSample
from densehead.visualization import PALETTE, DetLocalVisualizer, Style
from densehead.visualization.drawing import font_size, load_font
from densehead.visualization.local_visualizer import GAP

CLASSES = ("disc", "ring", "cross")


@pytest.fixture
def image():
    return np.full((480, 640, 3), 128, dtype=np.uint8)


def instances(boxes, labels, **fields):
    boxes = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    return InstanceData(bboxes=boxes, labels=torch.tensor(labels, dtype=torch.long), **fields)


def sample_with(gt=None, pred=None, ignored=None):
    sample = DetDataSample(metainfo={"img_id": 1})
    for name, value in (("gt_instances", gt), ("pred_instances", pred), ("ignored_instances", ignored)):
        if value is not None:
            setattr(sample, name, value)
    return sample


def full_sample():
    gt = instances([[100, 100, 200, 220], [300, 50, 420, 200]], [0, 1])
    pred = instances([[110, 105, 205, 215], [400, 300, 500, 400]], [0, 2], scores=torch.tensor([0.9, 0.2]))
    return sample_with(gt, pred, instances([[500, 350, 600, 450]], [2]))


def visualizer(**arguments):
    made = DetLocalVisualizer(alpha=1.0, **arguments)
    made.dataset_meta = {"classes": CLASSES}
    return made


def has_color(picture, color):
    return bool((picture == np.array(color)).all(-1).any())


def test_truth_is_left_and_detections_right(image):
    picture = visualizer().draw(image, full_sample())
    bar = picture.shape[0] - 480
    assert picture.shape[1] == 2 * 640 + GAP
    assert 0 < bar < 60
    left, right = picture[bar:, :640], picture[bar:, 640 + GAP :]
    assert tuple(left[160, 100]) == tuple(right[160, 110]) == PALETTE[0]
    assert tuple(left[100, 300]) == PALETTE[1]
    assert not has_color(right, PALETTE[1])  # not detected
    assert not has_color(right, PALETTE[2])  # its score is below the threshold
    lowered = visualizer().draw(image, full_sample(), pred_score_thr=0.1)[bar:, 640 + GAP :]
    assert tuple(lowered[350, 400]) == PALETTE[2]


def test_ignored_truth_is_dashed(image):
    picture = visualizer().draw(image, full_sample(), draw_pred=False)
    edge = (picture[448, 500:600] == PALETTE[2]).all(-1)
    assert edge[:3].any()
    assert edge[-3:].any()
    assert 0.3 < edge.mean() < 0.8
    solid = (picture[219, 100:200] == PALETTE[0]).all(-1)
    assert solid.all()


def test_one_side_alone_has_the_size_of_the_image(image):
    sample = full_sample()
    for arguments in ({"draw_gt": False}, {"draw_pred": False}):
        assert visualizer().draw(image, sample, **arguments).shape == image.shape
    assert (visualizer().draw(image, sample, draw_gt=False, draw_pred=False) == image).all()
    assert (visualizer().draw(image, None) == image).all()
    assert visualizer().draw(image, sample_with(pred=sample.pred_instances)).shape == image.shape


def test_small_images_are_enlarged_and_large_ones_reduced_on_demand():
    box = instances([[32, 32, 64, 64]], [1])
    picture = visualizer().draw(np.zeros((96, 128, 3), dtype=np.uint8), sample_with(box))
    assert picture.shape == (384, 512, 3)
    assert tuple(picture[190, 128]) == PALETTE[1]
    assert tuple(picture[190, 255]) == PALETTE[1]
    assert not has_color(picture[:, 270:], PALETTE[1])
    assert visualizer(min_side=0).draw(np.zeros((96, 128, 3), dtype=np.uint8)).shape == (96, 128, 3)
    style = Style(max_side=400)
    assert visualizer().draw(np.zeros((600, 800, 3), dtype=np.uint8), style=style).shape == (300, 400, 3)


def test_writes_the_file_and_leaves_its_input_alone(image, tmp_path):
    sample, before_image = full_sample(), image.copy()
    before = copy.deepcopy(sample)
    file = tmp_path / "new" / "picture.png"
    made = visualizer()
    made.add_datasample("picture", image, sample, out_file=str(file))
    written = mmcv.imread(str(file), channel_order="rgb")
    assert (written == made.draw(image, sample)).all()
    assert made.get_image().shape == written.shape
    assert (image == before_image).all()
    for key in ("gt_instances", "pred_instances", "ignored_instances"):
        for name, value in getattr(before, key).items():
            assert torch.equal(getattr(getattr(sample, key), name), value)


def test_without_a_file_the_backends_get_the_picture(image, tmp_path):
    config = {"type": "DetLocalVisualizer", "name": "v", "save_dir": str(tmp_path)}
    config["vis_backends"] = [{"type": "LocalVisBackend"}]
    before = copy.deepcopy(config)
    made = VISUALIZERS.build(config)
    made.add_datasample("val_img", image, full_sample(), step=3)
    assert config == before
    assert (tmp_path / "vis_data" / "vis_image" / "val_img_3.png").is_file()


def test_show_opens_the_window(image, monkeypatch):
    made, shown = visualizer(), []
    monkeypatch.setattr(made, "show", lambda picture, **arguments: shown.append((picture.shape, arguments)))
    made.add_datasample("a.jpg", image, full_sample(), draw_gt=False, show=True, wait_time=2)
    assert shown == [((480, 640, 3), {"win_name": "a.jpg", "wait_time": 2})]


def test_colors_of_the_config_and_of_the_data_set(image):
    sample = sample_with(instances([[100, 100, 200, 220]], [1]))
    assert tuple(visualizer(bbox_color="red").draw(image, sample)[160, 100]) == (255, 0, 0)
    with pytest.raises(ValueError, match="'redd'"):
        visualizer(bbox_color="redd")
    made = visualizer()
    made.dataset_meta = {"classes": CLASSES, "palette": [(1, 2, 3), (40, 50, 60)]}
    assert tuple(made.draw(image, sample)[160, 100]) == (40, 50, 60)
    wide = visualizer(line_width=9).draw(image, sample)
    assert (wide[160, 100:109] == PALETTE[1]).all()


def test_small_objects_stay_to_be_seen(image):
    picture = visualizer(line_width=9).draw(image, sample_with(instances([[300, 300, 312, 312]], [0])))
    assert tuple(picture[306, 300]) == PALETTE[0]
    assert (picture[303:309, 303:309] == 128).all()


def test_what_a_diverged_or_empty_model_gives_is_drawn(image):
    boxes = [[math.nan, 0, 10, 10], [700, 500, 800, 600], [50, 60, 40, 30], [-50, -60, 700, 900], [20, 20, 20, 20]]
    pred = instances(boxes, [0, 1, 2, 7, 0], scores=torch.tensor([0.9, 0.8, math.nan, 0.7, 0.6]))
    made = visualizer()
    made.dataset_meta = None
    assert made.draw(image, sample_with(instances([], []), pred)).shape[1] == 2 * 640 + GAP
    empty = instances([], [], scores=torch.zeros(0))
    assert (made.draw(image, sample_with(pred=empty)) == image).all()


def test_grey_and_float_images_and_other_shapes(image):
    assert visualizer().draw(image[..., 0]).shape == image.shape
    assert (visualizer().draw(image.astype(np.float32) + 900) == 255).all()
    with pytest.raises(ValueError, match=r"image must have the shape \(H, W, 3\).*got \(480, 640, 4\)"):
        visualizer().draw(np.zeros((480, 640, 4), dtype=np.uint8))


def test_labels_lie_inside_the_picture_and_name_class_and_score(image, monkeypatch):
    from PIL import ImageDraw

    texts = []
    original = ImageDraw.ImageDraw.text
    monkeypatch.setattr(
        ImageDraw.ImageDraw,
        "text",
        lambda self, place, text, *rest, **named: (
            texts.append((text, self.textbbox(place, text, rest[1]))) if named.get("anchor") is None else None,
            original(self, place, text, *rest, **named),
        )[1],
    )
    corner = instances([[600, 0, 640, 20], [0, 470, 30, 480]], [1, 8], scores=torch.tensor([0.456, 1.0]))
    visualizer().draw(image, sample_with(pred=corner))
    assert [text for text, _ in texts] == ["class 8 1.00", "ring 0.46"]
    for _, (left, top, right, bottom) in texts:
        assert 0 <= left < right <= 640
        assert 0 <= top < bottom <= 480


def test_fonts():
    assert font_size(640, 480) < font_size(1333, 800) < 30
    with pytest.raises(FileNotFoundError, match=r"font_file='absent\.ttf'"):
        load_font(12, "absent.ttf")
