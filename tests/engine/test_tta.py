import copy
from pathlib import Path

import mmcv
import numpy as np
import pytest
import torch
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import nn

from densehead.apis.options import load_config
from densehead.datasets.transforms import PackDetInputs
from densehead.engine.tta import DetTTAModel, unflipped
from densehead.models.data_preprocessor import DetDataPreprocessor
from densehead.models.detectors import BaseDetector
from densehead.registry import MODELS, TRANSFORMS
from densehead.structures import DetDataSample
from tests.models.heads.heads import CONFIGS, config

BASE = Path(__file__).resolve().parents[2] / "configs" / "_base_" / "tta.py"
TTA_CFG = dict(nms=dict(type="nms", iou_threshold=0.5), max_per_img=30)
KEYS = ("ori_shape", "img_shape", "scale_factor", "flip", "flip_direction")
DIRECTIONS = (None, "horizontal", "vertical", "diagonal")
SIZES = ((96, 64), (150, 100), (70, 96))  # width and height, the last of another shape than the image's


class Detector(nn.Module):
    def test_step(self, data):
        raise NotImplementedError


def make_view(boxes, scores, labels, direction=None):
    sample = DetDataSample(
        metainfo={"ori_shape": (50, 100), "flip": direction is not None, "flip_direction": direction}
    )
    sample.pred_instances = InstanceData(
        bboxes=torch.tensor(boxes, dtype=torch.float).reshape(-1, 4),
        scores=torch.tensor(scores, dtype=torch.float),
        labels=torch.tensor(labels, dtype=torch.long),
    )
    return sample


@pytest.mark.parametrize(
    ("direction", "expected"),
    [
        ("horizontal", [60.0, 5.0, 90.0, 20.0]),
        ("vertical", [10.0, 30.0, 40.0, 45.0]),
        ("diagonal", [60.0, 30.0, 90.0, 45.0]),
    ],
)
def test_unflipped(direction, expected):
    boxes = torch.tensor([[10.0, 5.0, 40.0, 20.0]])  # in an image 100 wide and 50 high
    meta = {"ori_shape": (50, 100), "flip": True, "flip_direction": direction}
    assert unflipped(boxes, meta).tolist() == [expected]
    assert unflipped(boxes, {"ori_shape": (50, 100)}) is boxes


def test_views_are_joined():
    tta = DetTTAModel(tta_cfg={"nms": {"type": "nms", "iou_threshold": 0.5}, "max_per_img": 2}, module=Detector())
    plain = make_view([[10, 5, 40, 20], [0, 0, 5, 5]], [0.6, 0.1], [1, 0])
    mirrored = make_view([[60, 5, 90, 20], [80, 30, 90, 40]], [0.8, 0.3], [1, 2], "horizontal")
    (merged,) = tta.merge_preds([[plain, mirrored]])
    assert merged.pred_instances.bboxes.tolist() == [[10, 5, 40, 20], [10, 30, 20, 40]]
    assert merged.pred_instances.scores.tolist() == pytest.approx([0.8, 0.3])
    assert merged.pred_instances.labels.tolist() == [1, 2]


def test_nothing_found():
    tta = DetTTAModel(tta_cfg={"nms": {"type": "nms", "iou_threshold": 0.5}, "max_per_img": 2}, module=Detector())
    (merged,) = tta.merge_preds([[make_view([], [], []), make_view([], [], [], "horizontal")]])
    assert merged.pred_instances.bboxes.shape == (0, 4)


def test_keys_of_tta_cfg():
    with pytest.raises(ValueError, match=r"tta_model\.tta_cfg lacks max_per_img, nms"):
        DetTTAModel(module=Detector())


def flip(direction):
    return dict(type="RandomFlip", prob=1.0, direction=direction) if direction else dict(type="RandomFlip", prob=0.0)


def views(image, sizes=SIZES, directions=DIRECTIONS):
    """Return a batch of one image as the loader hands it over: of each key a list of views."""
    steps = [dict(type="Resize", scale=size, keep_ratio=False) for size in sizes], [flip(one) for one in directions]
    load = TRANSFORMS.build(dict(type="LoadImageFromNDArray"))
    transform = TRANSFORMS.build(dict(type="TestTimeAug", transforms=[*steps, [PackDetInputs(meta_keys=KEYS)]]))
    return pseudo_collate([Compose([load, transform])(dict(img=image))])


def picture(height=64, width=96, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), dtype=np.uint8)


class FindBright(BaseDetector):
    """Finds the bright rectangle of an image, in whatever size and orientation it is shown."""

    def __init__(self):
        super().__init__(data_preprocessor=DetDataPreprocessor())

    def loss(self, batch_inputs, batch_data_samples):
        raise NotImplementedError

    _forward = extract_feat = loss

    def predict(self, batch_inputs, batch_data_samples, rescale=True):
        found = []
        for image, sample in zip(batch_inputs, batch_data_samples):
            rows, columns = (image.mean(0) > 127).nonzero(as_tuple=True)
            box = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]).float()
            boxes = box[None] / torch.tensor(sample.scale_factor).repeat(1, 2)
            found.append(InstanceData(bboxes=boxes, scores=torch.ones(1) * 0.7, labels=torch.tensor([2])))
        return self.add_pred_to_datasample(batch_data_samples, found)


def bright(box, height=64, width=96):
    image = np.zeros((height, width, 3), dtype=np.uint8)
    x1, y1, x2, y2 = box
    image[y1:y2, x1:x2] = 255
    return image


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("size", SIZES)
def test_a_place_that_is_known(size, direction):
    """Whatever the view, the rectangle is found where it lies in the image itself."""
    box = (8, 16, 40, 28)
    tta = DetTTAModel(tta_cfg=TTA_CFG, module=FindBright())
    (merged,) = tta.test_step(views(bright(box), [size], [direction]))
    assert len(merged.pred_instances) == 1
    assert merged.pred_instances.labels.tolist() == [2]
    torch.testing.assert_close(merged.pred_instances.bboxes, torch.tensor([box]).float(), rtol=0, atol=1.0)


def test_all_views_of_a_place_are_one_detection():
    box = (8, 16, 40, 28)
    tta = DetTTAModel(tta_cfg=TTA_CFG, module=FindBright())
    (merged,) = tta.test_step(views(bright(box)))
    assert len(merged.pred_instances) == 1
    torch.testing.assert_close(merged.pred_instances.bboxes, torch.tensor([box]).float(), rtol=0, atol=1.0)


def test_truth_is_that_of_a_view_that_is_not_flipped():
    """In the pipeline that ``--tta`` makes of a test pipeline, annotations are loaded before the flips."""
    box = [8.0, 16.0, 40.0, 28.0]
    steps = [
        dict(type="LoadImageFromNDArray"),
        dict(type="Resize", scale=(150, 100), keep_ratio=True),
        dict(type="LoadAnnotations"),
        dict(type="TestTimeAug", transforms=[[flip("horizontal"), flip(None)], [PackDetInputs(meta_keys=KEYS)]]),
    ]
    truth = dict(bbox=box, bbox_label=2, ignore_flag=0)
    packed = Compose([TRANSFORMS.build(step) for step in steps])(dict(img=bright((8, 16, 40, 28)), instances=[truth]))
    (merged,) = DetTTAModel(tta_cfg=TTA_CFG, module=FindBright()).test_step(pseudo_collate([packed]))
    assert merged.gt_instances.bboxes.tolist() == [box]
    assert not merged.flip
    torch.testing.assert_close(merged.pred_instances.bboxes, torch.tensor([box]), rtol=0, atol=1.0)


def test_images_of_a_batch_stay_apart():
    boxes = [(8, 16, 40, 28), (50, 2, 90, 40)]
    lone = [views(bright(box)) for box in boxes]
    batch = {key: [a + b for a, b in zip(lone[0][key], lone[1][key])] for key in lone[0]}
    merged = DetTTAModel(tta_cfg=TTA_CFG, module=FindBright()).test_step(batch)
    for one, box in zip(merged, boxes, strict=True):
        torch.testing.assert_close(one.pred_instances.bboxes, torch.tensor([box]).float(), rtol=0, atol=1.0)


def test_views_of_the_base_config(tmp_path):
    """Three sizes, each flipped and not, from a file."""
    box, file = [8.0, 16.0, 40.0, 28.0], tmp_path / "bright.png"
    mmcv.imwrite(bright((8, 16, 40, 28)), str(file))
    with DefaultScope.overwrite_default_scope("densehead"):
        cfg = load_config(BASE, {"tta_scales": [(96, 64), (150, 100)]})
        tta = MODELS.build(dict(cfg.tta_model, module=FindBright()))
        load = Compose([TRANSFORMS.build(step) for step in cfg.tta_pipeline])
    packed = load(dict(img_path=str(file), img_id=3, instances=[dict(bbox=box, bbox_label=2, ignore_flag=0)]))
    shapes = [(sample.img_shape, sample.flip) for sample in packed["data_samples"]]
    assert sorted(shapes) == [((64, 96), False), ((64, 96), True), ((100, 150), False), ((100, 150), True)]
    (merged,) = tta.test_step(pseudo_collate([packed]))
    assert merged.gt_instances.bboxes.tolist() == [box]
    torch.testing.assert_close(merged.pred_instances.bboxes, torch.tensor([box]), rtol=0, atol=1.0)


def detector(name):
    torch.manual_seed(0)
    head = config(name)
    head["test_cfg"] = dict(head["test_cfg"], score_thr=0.0, nms_pre=30)
    model = MODELS.build(
        dict(
            type="SingleStageDetector",
            data_preprocessor=dict(type="DetDataPreprocessor", mean=[128.0], std=[64.0], pad_size_divisor=32),
            backbone=dict(type="ResNet", depth=18, base_channels=8),
            neck=dict(type="FPN", in_channels=[8, 16, 32, 64], out_channels=8, start_level=1, num_outs=3),
            bbox_head=head,
        )
    )
    return model.eval()


def unflipped_by_hand(box, direction, width=96, height=64):
    x1, y1, x2, y2 = box
    if direction in ("horizontal", "diagonal"):
        x1, x2 = width - x2, width - x1
    if direction in ("vertical", "diagonal"):
        y1, y2 = height - y2, height - y1
    return [x1, y1, x2, y2]


def iou(a, b):
    shared = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return shared / max((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared, 1e-9)


def joined_by_hand(model, batch):
    """Every view on its own, its boxes turned back one by one, and the best of those that overlap."""
    found = []
    for inputs, samples in zip(batch["inputs"], batch["data_samples"]):
        (seen,) = model.test_step(dict(inputs=inputs, data_samples=copy.deepcopy(samples)))
        direction = samples[0].flip_direction if samples[0].flip else None
        for one in seen.pred_instances:
            box = unflipped_by_hand(one.bboxes[0].tolist(), direction)
            found.append((one.scores.item(), one.labels.item(), box))
    kept = []
    for score, label, box in sorted(found, key=lambda one: -one[0]):
        if all(other != label or iou(box, earlier) <= 0.5 for _, other, earlier in kept):
            kept.append((score, label, box))
    return kept[:30]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_head_against_a_loop(name):
    model, batch = detector(name), views(picture(), SIZES[:2], DIRECTIONS[:3])
    assert len(batch["inputs"]) == 6
    expected = joined_by_hand(model, copy.deepcopy(batch))
    (merged,) = DetTTAModel(tta_cfg=TTA_CFG, module=model).test_step(batch)
    found = merged.pred_instances
    assert len(found) == len(expected) > 5
    torch.testing.assert_close(found.scores, torch.tensor([score for score, _, _ in expected]), rtol=1e-5, atol=1e-6)
    assert found.labels.tolist() == [label for _, label, _ in expected]
    torch.testing.assert_close(found.bboxes, torch.tensor([box for _, _, box in expected]), rtol=1e-4, atol=1e-3)
