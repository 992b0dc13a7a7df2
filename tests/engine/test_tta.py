import pytest
import torch
from mmengine.structures import InstanceData
from torch import nn

from densehead.engine.tta import DetTTAModel, unflipped
from densehead.structures import DetDataSample


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
