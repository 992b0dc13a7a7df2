from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck

from densehead.ops import (
    aligned_iou,
    bbox2delta,
    bbox2distance,
    box_area,
    clip_boxes,
    delta2bbox,
    distance2bbox,
    pairwise_iou,
)

MODES = ("iou", "iof", "giou")


def naive_overlap(a, b, mode, eps=1e-6):
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0.0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0.0)
    intersection = width * height
    area_a, area_b = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
    if mode == "iof":
        return intersection / max(area_a, eps)
    union = max(area_a + area_b - intersection, eps)
    if mode == "iou":
        return intersection / union
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    hull = max(hull, eps)
    return intersection / union - (hull - union) / hull


@pytest.mark.parametrize("mode", MODES)
def test_overlaps_equal_a_loop(mode, random_boxes):
    boxes1, boxes2 = random_boxes(13, 0), random_boxes(13, 1)
    boxes2[3, 2:] = boxes2[3, :2]  # without extent
    expected = torch.tensor([[naive_overlap(a, b, mode) for b in boxes2.tolist()] for a in boxes1.tolist()])
    torch.testing.assert_close(pairwise_iou(boxes1, boxes2, mode), expected)
    torch.testing.assert_close(aligned_iou(boxes1, boxes2, mode), expected.diagonal())
    strided = boxes1.t().contiguous().t()
    torch.testing.assert_close(pairwise_iou(strided, boxes2, mode), expected)


@pytest.mark.parametrize(
    ("box", "iou", "iof", "giou"),
    [
        # against the square from 0 to 2:
        ((0, 0, 2, 2), 1.0, 1.0, 1.0),
        ((1, 1, 3, 3), 1 / 7, 1 / 4, 1 / 7 - 2 / 9),  # a corner of area 1 shared; hull 9, union 7
        ((2, 2, 4, 4), 0.0, 0.0, -0.5),  # diagonally adjacent: hull 16 = 2 x union
        ((0, 0, 1, 2), 0.5, 1.0, 0.5),  # the left half
        ((4, 0, 6, 2), 0.0, 0.0, -1 / 3),  # a gap as wide as the boxes: hull 12, union 8
        ((1, 1, 1, 1), 0.0, 0.0, 0.0),  # a point inside
    ],
)
def test_overlaps_by_hand(box, iou, iof, giou):
    box, square = torch.tensor([box]).float(), torch.tensor([[0.0, 0, 2, 2]])
    found = [pairwise_iou(box, square, mode).item() for mode in MODES]
    assert found == pytest.approx([iou, iof, giou], abs=1e-6)


def test_two_boxes_without_extent_do_not_overlap():
    point = torch.tensor([[1.0, 1, 1, 1]])
    assert [pairwise_iou(point, point, mode).item() for mode in MODES] == [0, 0, 0]


def test_pairwise_broadcasts_over_images(random_boxes):
    truth, priors = random_boxes(6).view(2, 3, 4), random_boxes(5, 1)
    found = pairwise_iou(truth, priors)
    assert found.shape == (2, 3, 5)
    for image in range(2):
        torch.testing.assert_close(found[image], pairwise_iou(truth[image], priors))


def test_no_boxes():
    some, none = torch.ones(3, 4), torch.ones(0, 4)
    assert pairwise_iou(some, none).shape == (3, 0)
    assert pairwise_iou(none, some, "giou").shape == (0, 3)
    assert aligned_iou(none, none).shape == (0,)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_overflow(dtype):
    box = torch.tensor([[0.0, 0, 512, 512]], dtype=dtype)  # an area of 2^18; float16 ends at 2^16
    found = pairwise_iou(box, box / 2)
    assert found.dtype == torch.float32
    assert found.item() == 0.25
    assert box_area(box).item() == 2**18


@pytest.mark.parametrize("mode", MODES)
def test_overlap_gradients(mode, random_boxes):
    boxes1, boxes2 = (random_boxes(4, seed, torch.float64).requires_grad_() for seed in (2, 3))
    assert gradcheck(lambda a, b: pairwise_iou(a, b, mode), (boxes1, boxes2))


def test_overlap_errors():
    with pytest.raises(ValueError, match=r"mode must be one of .* but got 'diou'"):
        pairwise_iou(torch.ones(1, 4), torch.ones(1, 4), "diou")
    with pytest.raises(ValueError, match=r"shape \(\.\.\., 4\), but got \(1, 5\)"):
        aligned_iou(torch.ones(1, 5), torch.ones(1, 5))


def test_distances_by_hand():
    # point (10, 20); sides 1 to the left, 2 above, 3 to the right, 4 below
    points, distance = torch.tensor([[10.0, 20]]), torch.tensor([[1.0, 2, 3, 4]])
    assert distance2bbox(points, distance).tolist() == [[9, 18, 13, 24]]
    assert bbox2distance(points, torch.tensor([[9.0, 18, 13, 24]])).tolist() == [[1, 2, 3, 4]]


def test_distances_and_boxes_are_inverse(random_boxes):
    boxes = random_boxes(12).view(2, 6, 4)
    points = boxes[..., :2] + 1
    torch.testing.assert_close(distance2bbox(points, bbox2distance(points, boxes)), boxes)


def test_distances_are_clamped_below_the_maximum():
    points, boxes = torch.tensor([[0.0, 0]]), torch.tensor([[-9.0, 1, 3, 8]])
    assert bbox2distance(points, boxes).tolist() == [[9, -1, 3, 8]]
    found = bbox2distance(points, boxes, max_dis=7, eps=0.5)
    assert found.tolist() == [[6.5, 0, 3, 6.5]]


@pytest.mark.parametrize("max_shape", [(8, 6), (8, 6, 3), torch.tensor([8, 6]), [(8, 6), (8, 6)], [(8, 6, 3)] * 2])
def test_boxes_are_clipped_to_height_and_width(max_shape):
    boxes = torch.tensor([[-1.0, -2, 7, 9], [1, 2, 3, 4], [7, 9, 7, 9]])
    expected = torch.tensor([[0.0, 0, 6, 8], [1, 2, 3, 4], [6, 8, 6, 8]])
    both = boxes.expand(2, 3, 4)
    torch.testing.assert_close(clip_boxes(both, max_shape), expected.expand(2, 3, 4))
    points = torch.zeros(2, 3, 2)
    ltrb = both * torch.tensor([-1, -1, 1, 1])
    torch.testing.assert_close(distance2bbox(points, ltrb, max_shape), expected.expand(2, 3, 4))
    assert boxes[0, 0] == -1  # the caller's boxes stay


def test_each_image_has_its_size():
    boxes = torch.tensor([0.0, 0, 100, 100]).expand(2, 3, 4)
    found = clip_boxes(boxes, [(10, 20), (30, 40)])
    assert found[0].tolist() == [[0, 0, 20, 10]] * 3
    assert found[1].tolist() == [[0, 0, 40, 30]] * 3
    with pytest.raises(ValueError, match=r"max_shape of shape \(3, 2\) for boxes of shape \(2, 3, 4\)"):
        clip_boxes(boxes, [(10, 20)] * 3)
    with pytest.raises(ValueError, match=r"max_shape of shape \(2, 2\) for boxes of shape \(3, 4\)"):
        clip_boxes(boxes[0], [(10, 20)] * 2)


def naive_delta2bbox(roi, delta, means, stds, clip, add_ctr_clamp=False, ctr_clamp=32.0):
    dx, dy, dw, dh = (value * std + mean for value, std, mean in zip(delta, stds, means))
    width, height = roi[2] - roi[0], roi[3] - roi[1]
    most = abs(math.log(clip))
    shift = [dx * width, dy * height]
    if add_ctr_clamp:
        shift = [max(min(value, ctr_clamp), -ctr_clamp) for value in shift]
        dw, dh = min(dw, most), min(dh, most)
    else:
        dw, dh = max(min(dw, most), -most), max(min(dh, most), -most)
    x, y = (roi[0] + roi[2]) / 2 + shift[0], (roi[1] + roi[3]) / 2 + shift[1]
    width, height = width * math.exp(dw), height * math.exp(dh)
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


@pytest.mark.parametrize("options", [{}, {"add_ctr_clamp": True, "ctr_clamp": 5}])
@pytest.mark.parametrize("clip", [16 / 1000, 0.5])
def test_deltas_equal_a_loop(options, clip, random_boxes):
    rois = random_boxes(20)
    deltas = torch.randn(20, 4, generator=torch.Generator().manual_seed(0)) * 2
    means, stds = (0.1, -0.1, 0.2, 0.0), (0.5, 0.6, 1.5, 2.0)
    expected = [naive_delta2bbox(r, d, means, stds, clip, **options) for r, d in zip(rois.tolist(), deltas.tolist())]
    found = delta2bbox(rois, deltas, means, stds, wh_ratio_clip=clip, **options)
    torch.testing.assert_close(found, torch.tensor(expected), rtol=1e-5, atol=1e-3)


def test_deltas_by_hand():
    # a square of side 4 around (2, 2): moved by half its width, its height doubled
    roi, delta = torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([[0.5, 0, 0, math.log(2)]])
    box = torch.tensor([[2.0, -2, 6, 6]])
    torch.testing.assert_close(delta2bbox(roi, delta), box)
    torch.testing.assert_close(bbox2delta(roi, box), delta)
    assert delta2bbox(roi, delta, max_shape=(5, 5)).tolist() == [[2, 0, 5, 5]]
    torch.testing.assert_close(delta2bbox(roi, delta, max_shape=(5, 5), clip_border=False), box)


def test_deltas_and_boxes_are_inverse(random_boxes):
    rois, boxes = random_boxes(12, 0).view(2, 6, 4), random_boxes(12, 1).view(2, 6, 4)
    coding = {"means": (0.1, 0.2, 0.3, 0.4), "stds": (0.1, 0.1, 0.2, 0.2)}
    found = delta2bbox(rois, bbox2delta(rois, boxes, **coding), **coding)
    torch.testing.assert_close(found, boxes, rtol=1e-4, atol=1e-3)


def test_deltas_of_several_boxes_from_each_and_of_images(random_boxes):
    rois, deltas = random_boxes(6).view(2, 3, 4), torch.randn(2, 3, 8)
    shapes = [(40, 50), (60, 70)]
    found = delta2bbox(rois, deltas, max_shape=shapes)
    assert found.shape == (2, 3, 8)
    for image in range(2):
        for k in range(2):
            part = slice(4 * k, 4 * k + 4)
            expected = delta2bbox(rois[image], deltas[image, :, part], max_shape=shapes[image])
            torch.testing.assert_close(found[image, :, part], expected)
    assert delta2bbox(rois[:0], deltas[:0]).shape == (0, 3, 8)


def test_coding_gradients(random_boxes):
    boxes, truth = (random_boxes(3, seed, torch.float64).requires_grad_() for seed in (0, 1))
    deltas = torch.randn(3, 4, dtype=torch.float64, requires_grad=True)
    assert gradcheck(bbox2delta, (boxes, truth))
    assert gradcheck(delta2bbox, (boxes, deltas))
    assert gradcheck(lambda b, d: distance2bbox(b[:, :2], d.exp(), (80, 80)), (boxes, deltas))


def test_coding_of_half_precision_is_float32(random_boxes):
    rois = random_boxes(3)
    assert delta2bbox(rois.half(), torch.zeros(3, 4).half()).dtype == torch.float32
    assert bbox2delta(rois.bfloat16(), rois.bfloat16()).dtype == torch.float32
    with pytest.raises(ValueError, match=r"one shape, but got \(3, 4\), \(2, 4\)"):
        bbox2delta(rois, rois[:2])


@pytest.mark.parametrize("batched", [False, True])
def test_equals_mmdetection(batched, random_boxes):
    reason = "compares with mmdetection, which is not installed here"
    structures = pytest.importorskip("mmdet.structures.bbox", reason=reason)
    coder = pytest.importorskip("mmdet.models.task_modules.coders.delta_xywh_bbox_coder", reason=reason)
    boxes1, boxes2 = random_boxes(24, 0), random_boxes(24, 1)
    if batched:
        boxes1, boxes2 = boxes1.view(2, 12, 4), boxes2.view(2, 12, 4)
    for mode in MODES:
        for aligned, ours in ((False, pairwise_iou), (True, aligned_iou)):
            theirs = structures.bbox_overlaps(boxes1, boxes2, mode, is_aligned=aligned, eps=1e-5)
            assert torch.equal(ours(boxes1, boxes2, mode, eps=1e-5), theirs)
    points, shape = boxes1[..., :2], [(70, 80), (90, 60)] if batched else (70, 80)
    assert torch.equal(distance2bbox(points, boxes2, shape), structures.distance2bbox(points, boxes2, shape))
    assert torch.equal(bbox2distance(points, boxes2, 16, 0.01), structures.bbox2distance(points, boxes2, 16, 0.01))
    coding = ((0.1, 0.2, 0.0, 0.1), (0.1, 0.1, 0.2, 0.2))
    deltas = bbox2delta(boxes1, boxes2, *coding)
    torch.testing.assert_close(deltas, coder.bbox2delta(boxes1, boxes2, *coding))
    decode = coder.onnx_delta2bbox if batched else coder.delta2bbox
    torch.testing.assert_close(
        delta2bbox(boxes1, deltas * 9, *coding, shape), decode(boxes1, deltas * 9, *coding, shape), rtol=1e-5, atol=1e-4
    )
