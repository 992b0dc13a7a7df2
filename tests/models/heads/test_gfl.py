"""What is particular to GFL: sides as distributions, the quality in the class score, the reach of the bins."""

import logging

import pytest
import torch
from mmengine.structures import InstanceData

from densehead.models.heads.integral import Integral
from tests.models.heads.heads import SHAPE, build, features, samples, total


def test_integral_is_an_expectation():
    logits = torch.randn(3, 4 * 6, dtype=torch.float64)
    found = Integral(5)(logits)
    for row in range(3):
        for side in range(4):
            bins = logits[row, side * 6 : side * 6 + 6].exp()
            expected = sum(k * value for k, value in enumerate((bins / bins.sum()).tolist()))
            assert found[row, side].item() == pytest.approx(expected, abs=1e-5)


def test_integral_keeps_leading_axes_and_sharp_bins():
    logits = torch.full((2, 3, 4 * 17), -50.0)
    logits[..., 7::17] = 50.0
    assert torch.equal(Integral(16)(logits), torch.full((2, 3, 4), 7.0))


def test_boxes_are_read_in_strides():
    """All sides three bins away: three strides, on every level."""
    head = build("GFLHead").eval()
    maps = [torch.full((1, 4 * 17, *level.shape[-2:]), -50.0) for level in features()]
    for level in maps:
        level[:, 3::17] = 50.0
    scores = [torch.zeros(1, 5, *level.shape[-2:]) for level in maps]
    priors = head._priors(maps)
    predictions = head._read((scores, maps), priors)
    prior = torch.arange(len(priors))
    boxes = predictions.boxes_at(torch.zeros_like(prior), prior)
    reach = 3 * priors.strides[:, None]
    torch.testing.assert_close(boxes, torch.cat([priors.points - reach, priors.points + reach], -1))


def test_losses_equal_a_loop():
    head, batch = build("GFLHead").double(), samples([3, 2])
    maps = [[level.double() for level in levels] for levels in head([feat.double() for feat in features()])]
    losses = head.loss_by_feat(*maps, [s.gt_instances for s in batch], [s.metainfo for s in batch])
    scores, logits = (torch.cat([level.flatten(2) for level in levels], 2) for levels in maps)
    bbox = dfl = weights = 0.0
    for image, row in enumerate(head.last_assignment.gt_index.tolist()):
        for prior, gt in enumerate(row):
            if gt < 0:
                continue
            weight = scores[image, :, prior].sigmoid().max().item()
            stride, point = head.last_priors.strides[prior], head.last_priors.points[prior]
            box = head.last_targets.boxes[image, gt]
            sides = torch.cat([point - box[:2], box[2:] - point]) / stride
            bins = logits[image, :, prior].view(4, 17).log_softmax(1)
            for side in range(4):
                target = min(max(sides[side].item(), 0.0), 16 - 0.1)
                left = int(target)
                dfl -= weight * ((left + 1 - target) * bins[side, left] + (target - left) * bins[side, left + 1])
            found = (bins.exp() * torch.arange(17.0)).sum(1) * stride
            pred = torch.cat([point - found[:2], point + found[2:]])
            bbox += weight * head.loss_bbox(pred[None], box[None].double(), reduction_override="none")
            weights += weight
    torch.testing.assert_close(
        losses["loss_dfl"], 0.25 * dfl / 4 / max(weights, 1.0), check_dtype=False, rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(
        losses["loss_bbox"], bbox[0] / max(weights, 1.0), check_dtype=False, rtol=1e-5, atol=1e-6
    )


def test_weights_of_the_box_losses_have_no_gradient():
    """Only the classification loss teaches the scores."""
    head = build("GFLHead")
    losses = head.loss(features(), samples([4, 3]))
    (losses["loss_bbox"] + losses["loss_dfl"]).backward()
    assert head.gfl_cls.weight.grad is None or not head.gfl_cls.weight.grad.any()
    assert head.gfl_reg.weight.grad.any()


@pytest.fixture
def log(monkeypatch):
    messages = []
    monkeypatch.setattr(
        "densehead.models.heads.integral.print_log", lambda text, logger, level: messages.append((level, text))
    )
    return messages


def wide(count):
    """Images with ``count`` objects as large as the image and one small one."""
    batch = samples([1, 1])
    for sample in batch:
        boxes = torch.tensor([[0.0, 0.0, SHAPE[1], SHAPE[0]]] * count + [[42.0, 42.0, 54.0, 54.0]])
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.zeros(count + 1, dtype=torch.long))
    return batch


def test_one_warning_of_objects_beyond_the_bins(log):
    head = build("GFLHead", reg_max=1)
    for _ in range(12):
        head.loss(features(), wide(1))
    assert len(log) == 1
    level, text = log[0]
    assert level == logging.WARNING
    assert text.startswith("2 of 4 ground truths in the first 1 batch(es) reach farther")
    assert "bbox_head.reg_max=1 strides" in text


def test_no_warning_where_the_bins_reach(log):
    head = build("GFLHead")
    for _ in range(12):
        head.loss(features(), samples([3, 0]))
    assert not log


def test_rare_objects_beyond_the_bins_are_found_later(log):
    head = build("GFLHead", reg_max=1)
    for number in range(12):
        head.loss(features(), wide(number == 5))
    assert [text.partition(" reach")[0] for _, text in log] == ["2 of 22 ground truths in the first 10 batch(es)"]


@pytest.mark.parametrize("reg_max", [0, -1])
def test_bins_are_wanted(reg_max):
    with pytest.raises(ValueError, match=rf"bbox_head.reg_max must be at least 1 .* but got {reg_max}"):
        build("GFLHead", reg_max=reg_max)


def test_a_quality_is_the_iou_of_the_predicted_box():
    """A box that is right teaches its class a score of one."""
    head, batch = build("GFLHead"), samples([3, 2])
    seen = {}
    loss = head.loss_cls.forward_maps
    head.loss_cls.forward_maps = lambda *args, pos_quality, **kwargs: (
        seen.update(quality=pos_quality) or loss(*args, pos_quality=pos_quality, **kwargs)
    )
    total(head.loss(features(), batch)).backward()
    positives = head.last_assignment.positives(head.last_targets)
    assert seen["quality"].shape == (len(positives),)
    assert not seen["quality"].requires_grad
    assert (seen["quality"] > 0).any()
    assert (seen["quality"] <= 1).all()
