from __future__ import annotations

import copy
import importlib
import math

import pytest
import torch

from densehead.ops import batched_nms, nms, pairwise_iou, soft_nms, use_backend
from tests.ops.conftest import needs_mmcv


@pytest.fixture(autouse=True, params=["pairs", "sweeps"])
def way(request, monkeypatch):
    """Few boxes are compared in pairs, many are swept."""
    if request.param == "sweeps":
        monkeypatch.setattr(importlib.import_module("densehead.ops.nms"), "_PAIRS_LIMIT", -1)


def naive_nms(boxes, scores, groups, threshold):
    """Indices kept, best first."""
    overlaps = pairwise_iou(boxes, boxes)
    order = sorted(range(len(scores)), key=lambda i: (-scores[i].item(), i))
    keep = []
    for i in order:
        if all(groups[i] != groups[j] or overlaps[i, j] <= threshold for j in keep):
            keep.append(i)
    return keep


def naive_soft_nms(boxes, scores, groups, method, threshold=0.3, sigma=0.5, min_score=1e-3):
    """Pairs of index and score, in the order of choice."""
    overlaps = pairwise_iou(boxes, boxes)
    waiting = {i: scores[i].item() for i in range(len(scores))}
    chosen = []
    while waiting:
        best = max(waiting, key=lambda i: (waiting[i], -i))
        chosen.append((best, waiting.pop(best)))
        for i in list(waiting):
            overlap = overlaps[best, i].item() if groups[i] == groups[best] else 0.0
            if method == "gaussian":
                waiting[i] *= math.exp(-(overlap**2) / sigma)
            elif overlap >= threshold:
                waiting[i] *= 1 - overlap if method == "linear" else 0
            if waiting[i] < min_score:
                del waiting[i]
    return chosen


@pytest.fixture
def scene(random_boxes):
    def make(count=60, classes=4, seed=0):
        generator = torch.Generator().manual_seed(seed)
        scores = torch.randperm(count, generator=generator) / count  # no two equal
        labels = torch.randint(0, classes, (count,), generator=generator)
        return random_boxes(count, seed), scores, labels

    return make


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.6])
def test_equals_a_loop(any_backend, scene, threshold, seed):
    boxes, scores, labels = scene(seed=seed)
    dets, keep = nms(boxes, scores, threshold)
    assert keep.tolist() == naive_nms(boxes, scores, torch.zeros(60), threshold)
    torch.testing.assert_close(dets, torch.cat((boxes, scores[:, None]), 1)[keep])
    dets, keep = batched_nms(boxes, scores, labels, {"type": "nms", "iou_threshold": threshold})
    assert keep.tolist() == naive_nms(boxes, scores, labels, threshold)
    torch.testing.assert_close(dets, torch.cat((boxes, scores[:, None]), 1)[keep])


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("method", ["linear", "gaussian", "naive"])
def test_soft_equals_a_loop(any_backend, scene, method, seed):
    boxes, scores, labels = scene(40, 3, seed)
    options = {"sigma": 0.4, "min_score": 0.05, "method": method, "iou_threshold": 0.25}
    for groups in (torch.zeros(40), labels):
        expected = naive_soft_nms(boxes, scores, groups, method, 0.25, 0.4, 0.05)
        if groups is labels:
            dets, keep = batched_nms(boxes, scores, labels, {"type": "soft_nms", **options})
        else:
            dets, keep = soft_nms(boxes, scores, **options)
        assert keep.tolist() == [index for index, _ in expected]
        torch.testing.assert_close(dets[:, 4], torch.tensor([score for _, score in expected]))
        torch.testing.assert_close(dets[:, :4], boxes[keep])


def test_by_hand(any_backend):
    # Two squares of side 10, the second moved by 5: IoU 50 / 150; the third apart.
    boxes = torch.tensor([[0.0, 0, 10, 10], [5, 0, 15, 10], [40, 40, 50, 50]])
    scores = torch.tensor([0.5, 0.9, 0.7])
    assert nms(boxes, scores, 0.3)[1].tolist() == [1, 2]
    assert nms(boxes, scores, 0.4)[1].tolist() == [1, 2, 0]
    dets, keep = soft_nms(boxes, scores, iou_threshold=0.3)
    assert keep.tolist() == [1, 2, 0]
    torch.testing.assert_close(dets[:, 4], torch.tensor([0.9, 0.7, 0.5 * 2 / 3]))


@pytest.mark.parametrize("threshold", [0.6, 0.7, 1 / 3, 0.1])
@pytest.mark.parametrize("limit", [0, 1000])
def test_an_overlap_of_just_the_threshold_stays(any_backend, threshold, limit, monkeypatch):
    monkeypatch.setitem(importlib.import_module("densehead.ops.nms")._SWEEP_LIMIT, "cpu", limit)
    # One box inside the other, of which it fills the fraction `threshold`.
    inside = {0.6: (3, 5), 0.7: (7, 10), 1 / 3: (1, 3), 0.1: (1, 10)}[threshold]
    boxes = torch.tensor([[0.0, 0, inside[1], 1], [0, 0, inside[0], 1]])
    assert len(nms(boxes, torch.tensor([0.9, 0.8]), threshold)[1]) == 2
    assert len(nms(boxes, torch.tensor([0.9, 0.8]), threshold - 1e-3)[1]) == 1


def test_pixels_counted_to_the_end(any_backend):
    # As pixels 0 to 9 and 5 to 14 of one row of ten: 5 of 15 are shared (offset 1), not 4 of 14.
    boxes, scores = torch.tensor([[0.0, 0, 9, 9], [5, 0, 14, 9]]), torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, 0.32, offset=1)[1].tolist() == [0]
    assert nms(boxes, scores, 0.32, offset=0)[1].tolist() == [0, 1]
    assert soft_nms(boxes, scores, 0.32, offset=1)[0][1, 4].item() == pytest.approx(0.8 * 2 / 3)


def test_score_threshold_and_max_num(any_backend, scene):
    boxes, scores, labels = scene()
    cfg = {"type": "nms", "iou_threshold": 0.5}
    every = batched_nms(boxes, scores, labels, cfg)[1]
    kept = batched_nms(boxes, scores, labels, dict(cfg, score_threshold=0.5))[1]
    assert kept.tolist() == [i for i in every.tolist() if scores[i] > 0.5]
    assert batched_nms(boxes, scores, labels, dict(cfg, max_num=7))[1].tolist() == every[:7].tolist()
    soft = {"type": "soft_nms", "iou_threshold": 0.5}
    every = batched_nms(boxes, scores, labels, soft)
    some = batched_nms(boxes, scores, labels, dict(soft, max_num=7))
    assert torch.equal(some[0], every[0][:7])
    assert torch.equal(some[1], every[1][:7])


def test_class_agnostic_in_the_config_or_beside_it(any_backend, scene):
    boxes, scores, labels = scene()
    expected = nms(boxes, scores, 0.5)[1]
    cfg = {"iou_threshold": 0.5}  # type defaults to nms
    assert torch.equal(batched_nms(boxes, scores, labels, cfg, class_agnostic=True)[1], expected)
    assert torch.equal(batched_nms(boxes, scores, labels, dict(cfg, class_agnostic=True))[1], expected)
    found = batched_nms(boxes, scores, labels, dict(cfg, class_agnostic=False), class_agnostic=True)[1]
    assert len(found) > len(expected)


@pytest.mark.parametrize("kind", ["nms", "soft_nms"])
def test_the_config_stays_as_it_is(any_backend, scene, kind):
    cfg = {"type": kind, "iou_thr": 0.5, "class_agnostic": True, "split_thr": 100, "max_num": 3}
    before = copy.deepcopy(cfg)
    batched_nms(*scene(), cfg)
    assert cfg == before


def test_no_config_sorts(any_backend, scene):
    boxes, scores, labels = scene()
    dets, keep = batched_nms(boxes, scores, labels, None)
    assert keep.tolist() == scores.argsort(descending=True).tolist()
    torch.testing.assert_close(dets, torch.cat((boxes, scores[:, None]), 1)[keep])


@pytest.mark.parametrize("cfg", [None, {"type": "nms", "iou_threshold": 0.5}, {"type": "soft_nms"}])
def test_no_boxes(any_backend, cfg):
    dets, keep = batched_nms(torch.zeros(0, 4), torch.zeros(0), torch.zeros(0, dtype=torch.long), cfg)
    assert dets.shape == (0, 5)
    assert keep.shape == (0,)
    assert keep.dtype == torch.long


@pytest.mark.parametrize("kind", ["nms", "soft_nms"])
def test_nothing_above_the_threshold(any_backend, scene, kind):
    boxes, scores, _ = scene()
    if kind == "nms":
        dets, keep = nms(boxes, scores, 0.5, score_threshold=2.0)
        assert dets.shape == (0, 5)
    else:  # the best of all stays
        dets, keep = soft_nms(boxes, scores, min_score=2.0)
        assert keep.tolist() == [int(scores.argmax())]
    assert dets.shape == (len(keep), 5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("kind", ["nms", "soft_nms"])
def test_other_precisions(any_backend, scene, dtype, kind):
    boxes, scores, labels = scene()
    scores = (torch.arange(60.0) * 2 + 8).flip(0)[labels.argsort()] / 256  # exact in 8 bits
    cfg = {"type": kind, "iou_threshold": 0.5}
    expected = batched_nms(boxes.to(dtype).float(), scores, labels, cfg)
    dets, keep = batched_nms(boxes.to(dtype), scores.to(dtype), labels, cfg)
    assert keep.tolist() == expected[1].tolist()
    torch.testing.assert_close(dets.float(), expected[0])
    assert batched_nms(boxes, scores.to(dtype), labels, cfg)[1].shape[0] > 0  # types may differ


def test_many_boxes_are_swept_class_by_class_with_the_same_result(scene, monkeypatch):
    module = importlib.import_module("densehead.ops.nms")
    boxes, scores, labels = scene(300, 9)
    scores[::10] = 0.5  # ties, across classes as well
    cfg = {"type": "nms", "iou_threshold": 0.5}
    with use_backend("torchvision"):
        expected = batched_nms(boxes, scores, labels, cfg)[1]
        monkeypatch.setattr(module, "_SWEEP_LIMIT", {"cpu": 10})
        assert batched_nms(boxes, scores, labels, cfg)[1].tolist() == expected.tolist()
        assert batched_nms(boxes, scores, labels, dict(cfg, score_threshold=0.5))[1].numel() < expected.numel()
        assert batched_nms(boxes[:0], scores[:0], labels[:0], cfg)[1].numel() == 0
    assert expected.tolist() == naive_nms(boxes, scores, labels, 0.5)


@pytest.mark.parametrize("moved", [1e6, -1e6])
def test_far_coordinates_keep_their_pixels(moved):
    # Half-overlapping boxes of 8 pixels (exact in float32 at 2^20), the 80th class: moving classes apart in float32
    # would leave steps of 8 pixels.
    boxes = torch.tensor([[0.0, 0, 8, 8], [4, 0, 12, 8], [4, 0, 12, 8]]) + moved
    scores, labels = torch.tensor([0.9, 0.8, 0.7]), torch.tensor([79, 79, 0])
    with use_backend("torchvision"):
        assert batched_nms(boxes, scores, labels, {"iou_threshold": 0.3})[1].tolist() == [0, 2]
        assert batched_nms(boxes, scores, labels, {"iou_threshold": 0.4})[1].tolist() == [0, 1, 2]


def test_classes_stay_apart_left_of_the_image():
    # all coordinates below 0, the greatest -1: mmcv's way to move classes apart would not move them
    boxes = torch.tensor([[-9.0, -9, -1, -1], [-9, -9, -1, -1]])
    with use_backend("torchvision"):
        keep = batched_nms(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 1]), {"iou_threshold": 0.5})[1]
    assert keep.tolist() == [0, 1]


def test_an_infinite_box_spares_the_others():
    boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 8, 8], [0, 0, torch.inf, 8]])
    with use_backend("torchvision"):
        keep = batched_nms(boxes, torch.tensor([0.9, 0.8, 0.7]), torch.tensor([1, 1, 1]), {"iou_threshold": 0.5})[1]
    assert keep.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("cfg", "message"),
    [
        ({"type": "nms_rotated"}, r"nms type must be one of \['nms', 'soft_nms'\], but .* type='nms_rotated'"),
        ({"type": "nms", "iou_threshold": 0.5, "sigma": 1}, r"has no key \['sigma'\]: it takes .*iou_threshold"),
        ({"type": "nms"}, "nms needs iou_threshold"),
        ({"type": "soft_nms", "method": "cubic"}, "method of soft_nms must be one of .* but got 'cubic'"),
        ({"iou_threshold": 0.5, "offset": 2}, "offset must be 0 or 1, but got 2"),
    ],
)
def test_config_errors(scene, cfg, message):
    with pytest.raises(ValueError, match=message):
        batched_nms(*scene(), cfg)


def test_shape_errors(scene):
    boxes, scores, labels = scene()
    with pytest.raises(
        ValueError, match=r"boxes must have shape \(n, 4\) and scores \(n,\), but got \(60, 4\) and \(59,\)"
    ):
        nms(boxes, scores[1:], 0.5)
    with pytest.raises(ValueError, match=r"idxs must have the shape of scores, \(60,\), but got \(59,\)"):
        batched_nms(boxes, scores, labels[1:], {"iou_threshold": 0.5})


@needs_mmcv
@pytest.mark.parametrize("count", [30, 1500])
@pytest.mark.parametrize(
    "cfg",
    [
        {"type": "nms", "iou_threshold": 0.5},
        {"type": "nms", "iou_threshold": 0.5, "split_thr": 10, "max_num": 20},
        {"type": "nms", "iou_threshold": 0.6, "class_agnostic": True, "score_threshold": 0.3},
        {"type": "soft_nms", "iou_threshold": 0.4, "min_score": 0.05},
        {"type": "soft_nms", "method": "gaussian", "sigma": 0.3, "min_score": 0.1},
    ],
)
def test_both_backends_and_mmcv_itself_agree(scene, cfg, count):
    import mmcv.ops

    boxes, scores, labels = scene(count, 20)
    expected = mmcv.ops.batched_nms(boxes, scores, labels, cfg)
    for name in ("mmcv", "torchvision"):
        with use_backend(name):
            dets, keep = batched_nms(boxes, scores, labels, cfg)
        if cfg["type"] == "nms":
            assert keep.tolist() == expected[1].tolist()
        # mmcv moves classes apart in float32: lowered scores differ in the fifth digit, and near ones in their order
        order, expected_order = keep.argsort(), expected[1].argsort()
        assert torch.equal(keep[order], expected[1][expected_order])
        torch.testing.assert_close(dets[order], expected[0][expected_order], rtol=1e-4, atol=1e-4)
        assert (dets[1:, 4] <= dets[:-1, 4]).all()
