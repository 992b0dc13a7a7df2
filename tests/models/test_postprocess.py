"""Detections against a loop over images, levels, priors and classes."""

import copy
import math

import pytest
import torch

from densehead.models.postprocess import candidates
from densehead.ops import batched_nms
from densehead.structures import LevelTensor
from tests.models.heads.heads import CONFIGS, TEST_CFG, build, features, samples

all_heads = pytest.mark.parametrize("name", CONFIGS)


def naive(head, maps, metas, cfg, rescale):
    """Detections of each image as a list of (box, score, label), by hand."""
    priors = head.prior_generator.priors([level.shape[-2:] for level in maps[0]])
    base, results = head.num_base_priors, []
    for image, meta in enumerate(metas):
        boxes, scores, labels, start = [], [], [], 0
        for cls_map, box_map, quality_map in zip(*maps):
            found = []
            places = cls_map.shape[-2] * cls_map.shape[-1]
            for prior in range(places * base):
                place, anchor = divmod(prior, base)
                row, column = divmod(place, cls_map.shape[-1])
                for label in range(head.num_classes):
                    score = torch.sigmoid(cls_map[image, anchor * head.num_classes + label, row, column]).item()
                    if score > cfg["score_thr"]:
                        found.append((score, start + prior, anchor, row, column, label))
            found.sort(key=lambda entry: -entry[0])
            for score, prior, anchor, row, column, label in found[: cfg["nms_pre"]]:
                numbers = box_map[image, anchor * 4 : anchor * 4 + 4, row, column]
                where = priors.points if type(head).__name__ == "FCOSHead" else priors.boxes
                box = head.bbox_coder.decode(where[prior][None], numbers[None], max_shape=meta["img_shape"])
                boxes.append(box[0])
                quality = torch.sigmoid(quality_map[image, anchor, row, column]).item()
                scores.append(score * quality)
                labels.append(label)
            start += places * base
        boxes, scores, labels = torch.stack(boxes), torch.tensor(scores), torch.tensor(labels)
        if rescale:
            boxes = boxes / torch.tensor(meta["scale_factor"] * 2)
        keep = (boxes[:, 2] - boxes[:, 0] > cfg["min_bbox_size"]) & (boxes[:, 3] - boxes[:, 1] > cfg["min_bbox_size"])
        boxes, scores, labels = boxes[keep], scores[keep], labels[keep]
        dets, order = batched_nms(boxes, scores, labels, cfg["nms"])
        results.append((dets[: cfg["max_per_img"]], labels[order][: cfg["max_per_img"]]))
    return results


def maps_and_metas(name, seed=0):
    head = build(name).eval()
    with torch.no_grad():
        maps = [list(levels) for levels in head(features(seed=seed))]
    generator = torch.Generator().manual_seed(seed)
    maps[0] = [torch.randn(level.shape, generator=generator) * 2 - 1 for level in maps[0]]
    maps[1] = [
        level + torch.rand(level.shape, generator=generator) * (20 if "FCOS" in name else 2) for level in maps[1]
    ]
    maps[2] = [torch.randn(level.shape, generator=generator) for level in maps[2]]
    metas = [sample.metainfo for sample in samples([1, 1], scale_factor=(0.5, 2.0))]
    metas[1]["img_shape"] = (60, 70)
    return head, maps, metas


@all_heads
@pytest.mark.parametrize("rescale", [False, True])
@pytest.mark.parametrize(
    "changes", [{}, dict(nms_pre=7), dict(min_bbox_size=12), dict(score_thr=0.7), dict(max_per_img=3)]
)
def test_detections_equal_loops(name, rescale, changes):
    head, maps, metas = maps_and_metas(name)
    cfg = dict(TEST_CFG, nms_pre=40) | changes
    results = head.predict_by_feat(*maps, batch_img_metas=metas, cfg=cfg, rescale=rescale)
    for result, (dets, labels) in zip(results, naive(head, maps, metas, cfg, rescale)):
        torch.testing.assert_close(result.bboxes, dets[:, :4])
        torch.testing.assert_close(result.scores, dets[:, 4])
        assert torch.equal(result.labels, labels)


@all_heads
def test_soft_nms_lowers_scores(name):
    head, maps, metas = maps_and_metas(name)
    cfg = dict(TEST_CFG, nms=dict(type="soft_nms", iou_threshold=0.3), max_per_img=-1)
    soft = head.predict_by_feat(*maps, batch_img_metas=metas, cfg=cfg)
    hard = head.predict_by_feat(*maps, batch_img_metas=metas, cfg=dict(TEST_CFG, max_per_img=-1))
    assert all(len(a) > len(b) for a, b in zip(soft, hard))
    assert all((result.scores.diff() <= 0).all() for result in soft)


@all_heads
def test_without_suppression_all_candidates_stay(name):
    head, maps, metas = maps_and_metas(name)
    cfg = dict(TEST_CFG, nms_pre=-1, score_thr=0.3, min_bbox_size=-1)
    results = head.predict_by_feat(*maps, batch_img_metas=metas, cfg=cfg, with_nms=False)
    expected = sum((level.sigmoid() > 0.3).flatten(1).sum(1) for level in maps[0])
    assert [len(result) for result in results] == expected.tolist()


@all_heads
@pytest.mark.parametrize("threshold", [0.999999, 1.0])
def test_nothing_found(name, threshold):
    head, maps, metas = maps_and_metas(name)
    for result in head.predict_by_feat(*maps, batch_img_metas=metas, cfg=dict(TEST_CFG, score_thr=threshold)):
        assert result.bboxes.shape == (0, 4)
        assert result.scores.shape == result.labels.shape == (0,)


@all_heads
def test_nothing_is_changed(name):
    head, maps, metas = maps_and_metas(name)
    cfg = copy.deepcopy(TEST_CFG)
    before = copy.deepcopy((maps, metas, cfg))
    head.predict_by_feat(*maps, batch_img_metas=metas, cfg=cfg, rescale=True)
    assert all(torch.equal(a, b) for new, old in zip(maps, before[0]) for a, b in zip(new, old))
    assert (metas, cfg) == before[1:]


@all_heads
def test_score_factors_may_be_absent(name):
    head, maps, metas = maps_and_metas(name)
    plain = head.predict_by_feat(*maps[:2], batch_img_metas=metas, with_nms=False)
    weighed = head.predict_by_feat(*maps, batch_img_metas=metas, with_nms=False)
    assert all((a.scores >= b.scores).all() for a, b in zip(plain, weighed))


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.5])
def test_threshold_before_the_sigmoid_is_the_same(threshold):
    logits = LevelTensor([torch.randn(2, 6, 4, 5) * 3], 2)
    found = candidates(logits, threshold, -1, is_sigmoid=True)
    scores = logits.flat().sigmoid()
    image, prior, label = (scores > threshold).nonzero(as_tuple=True)
    assert len(found.scores) == len(image)
    order = (found.image_index * 1000 + found.prior_index * 10 + found.labels).argsort()
    assert torch.equal(found.prior_index[order], prior)
    assert torch.equal(found.labels[order], label)
    torch.testing.assert_close(found.scores[order], scores[image, prior, label])
    assert math.isclose(found.scores.min().item(), scores[scores > threshold].min().item(), rel_tol=1e-6)


def test_soft_candidates_leave_the_background_out():
    logits = LevelTensor([torch.randn(1, 4, 3, 3)], 1)  # three classes and the background
    found = candidates(logits, 0.2, -1, is_sigmoid=False)
    scores = logits.flat().softmax(-1)[..., :3]
    assert len(found.scores) == (scores > 0.2).sum()
    torch.testing.assert_close(found.scores, scores[found.image_index, found.prior_index, found.labels])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(cfg={}), r"needs model.test_cfg, e.g. "),
        (dict(cfg=dict(score_thr=0.1)), r"test_cfg lacks nms"),
        (dict(batch_img_metas=None), r"needs the metas of all 2 images .* got none"),
        (dict(batch_img_metas=[{}]), r"needs the metas of all 2 images .* got 1"),
        (dict(batch_img_metas=[{}, {}]), r"image 0 .* no meta key 'img_shape'"),
        (dict(batch_img_metas=[dict(img_shape=(1, 1))] * 2, rescale=True), r"no meta key 'scale_factor'"),
        (dict(cfg=dict(TEST_CFG, nms=dict(type="nmss"))), r"nms type must be one of .*'nmss'"),
    ],
)
def test_bad_input_is_named(arguments, message):
    head, maps, metas = maps_and_metas("FCOSHead")
    with pytest.raises(ValueError, match=message):
        head.predict_by_feat(*maps, **dict(dict(batch_img_metas=metas), **arguments))
