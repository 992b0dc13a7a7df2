"""Detections against a loop over images, levels, priors and classes."""

import copy
import math
from typing import NamedTuple

import pytest
import torch
from mmengine.structures import InstanceData

from densehead.models import PAAHead
from densehead.models.postprocess import Candidates, ScoredBoxes, suppression, vote_boxes, votes
from densehead.models.postprocess.candidates import _above, candidates
from densehead.ops import batched_nms, pairwise_iou
from densehead.structures import LevelTensor
from tests.models.heads.heads import CONFIGS, HALVES, TEST_CFG, build, features, samples

all_heads = pytest.mark.parametrize("name", CONFIGS)


def naive_candidates(head, maps, meta, image, cfg, rescale):
    """All that suppression sees of an image, as a list of (box, score, label), by hand."""
    priors = head._priors(maps[0])
    predictions = head._read(maps, priors)
    has_quality, goes_by_prior = "quality_logits" in predictions, isinstance(head, PAAHead)
    base, start, results = head.num_base_priors, 0, []
    for level, cls_map in enumerate(maps[0]):
        places, found = cls_map.shape[-2] * cls_map.shape[-1], []
        for prior in range(places * base):
            place, anchor = divmod(prior, base)
            row, column = divmod(place, cls_map.shape[-1])
            quality = maps[-1][level][image, anchor, row, column] if has_quality else None
            pairs = []
            for label in range(head.num_classes):
                score = cls_map[image, anchor * head.num_classes + label, row, column].sigmoid()
                fused = head.fuse_scores(score, quality) if has_quality else score
                if (fused if goes_by_prior else score) > cfg["score_thr"]:
                    pairs.append((score.item(), fused.item(), start + prior, label))
            if goes_by_prior and pairs:
                found.append((max(fused for _, fused, _, _ in pairs), pairs))
            else:
                found += [(pair[0], [pair]) for pair in pairs]
        found.sort(key=lambda entry: -entry[0])
        for _, pairs in found[: cfg["nms_pre"] if cfg["nms_pre"] > 0 else None]:
            for _, fused, prior, label in pairs:
                box = head.boxes_at(predictions, priors, torch.tensor([image]), torch.tensor([prior]))[0]
                height, width = meta["img_shape"]
                box = box.clamp(min=0).minimum(torch.tensor([width, height, width, height]))
                if rescale:
                    box = box / torch.tensor(meta["scale_factor"] * 2)
                if ((box[2:] - box[:2]) > cfg["min_bbox_size"]).all() or cfg["min_bbox_size"] < 0:
                    results.append((box, fused, label))
        start += places * base
    return results


def naive(head, maps, metas, cfg, rescale):
    """Detections of each image: (n, 5) boxes and scores, (n,) labels, by hand."""
    results = []
    for image, meta in enumerate(metas):
        boxes, scores, labels = zip(*naive_candidates(head, maps, meta, image, cfg, rescale))
        boxes, scores, labels = torch.stack(boxes), torch.tensor(scores), torch.tensor(labels)
        dets, order = batched_nms(boxes, scores, labels, cfg["nms"])
        dets, found = dets[: cfg["max_per_img"]], labels[order][: cfg["max_per_img"]]
        if isinstance(head, PAAHead):
            dets, found = naive_votes(dets, found, boxes, scores, labels)
        results.append((dets, found))
    return results


def naive_votes(dets, labels, boxes, scores, candidate_labels):
    voted = []
    for label in sorted(set(labels.tolist())):
        for det in dets[labels == label]:
            iou = pairwise_iou(det[None, :4], boxes)[0]
            is_voter = (candidate_labels == label) & (iou > 0.01)
            weight = (scores * torch.exp(-((1 - iou) ** 2) / 0.025))[is_voter]
            mean = (boxes[is_voter] * weight[:, None]).sum(0) / weight.sum()
            voted.append(torch.cat([mean, det[4:]]))
    return torch.stack(voted), labels.sort()[0]


def maps_and_metas(name, seed=0):
    head = build(name).eval()
    with torch.no_grad():
        maps = [list(levels) for levels in head(features(seed=seed))]
    generator = torch.Generator().manual_seed(seed)
    maps[0] = [torch.randn(level.shape, generator=generator) * 2 - 1 for level in maps[0]]
    maps[1] = [
        level + torch.rand(level.shape, generator=generator) * (20 if "FCOS" in name else 2) for level in maps[1]
    ]
    maps[2:] = [[torch.randn(level.shape, generator=generator) for level in levels] for levels in maps[2:]]
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
    for result in soft:
        of_class = [result.scores[result.labels == label] for label in range(head.num_classes)]
        assert all((scores.diff() <= 0).all() for scores in of_class)


@all_heads
def test_without_suppression_all_candidates_stay(name):
    head, maps, metas = maps_and_metas(name)
    cfg = dict(TEST_CFG, nms_pre=-1, score_thr=0.3, min_bbox_size=-1)
    results = head.predict_by_feat(*maps, batch_img_metas=metas, cfg=cfg, with_nms=False)
    for image, result in enumerate(results):
        assert len(result) == len(naive_candidates(head, maps, metas[image], image, cfg, rescale=False))


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
    assert all(len(result) and result.scores.isfinite().all() for result in plain)
    if not isinstance(head, PAAHead):  # which has other candidates then
        weighed = head.predict_by_feat(*maps, batch_img_metas=metas, with_nms=False)
        assert all((a.scores >= b.scores).all() for a, b in zip(plain, weighed))


def instances(*entries):
    boxes, scores, labels = zip(*entries)
    return InstanceData(bboxes=torch.tensor(boxes), scores=torch.tensor(scores), labels=torch.tensor(labels))


def voters(others):
    """Candidates of an image as a table of boxes and scores of classes."""
    scores = torch.zeros(len(others), 4)
    scores[torch.arange(len(others)), others.labels] = others.scores
    return ScoredBoxes(others.bboxes, scores)


class Found(NamedTuple):
    image_index: torch.Tensor
    prior_index: torch.Tensor
    labels: torch.Tensor
    scores: torch.Tensor


class TestVotes:
    # the second box overlaps the first by 80 of 120: IoU 2/3, weight exp(-(1/3)^2 / 0.025)
    FIRST, SECOND = [0.0, 0.0, 10.0, 10.0], [2.0, 0.0, 12.0, 10.0]

    def test_by_hand(self):
        dets = instances((self.FIRST, 0.8, 1))
        result = vote_boxes(dets, voters(instances((self.FIRST, 0.8, 1), (self.SECOND, 0.4, 1))))
        share = 0.4 * math.exp(-1 / 9 / 0.025)
        shift = 2 * share / (0.8 + share)
        torch.testing.assert_close(result.bboxes, torch.tensor([[shift, 0.0, 10 + shift, 10.0]]))
        assert result.scores.tolist() == dets.scores.tolist()

    def test_only_overlapping_boxes_of_the_class_vote(self):
        others = instances(
            (self.FIRST, 0.8, 1),
            (self.SECOND, 0.9, 2),
            ([20.0, 0.0, 30.0, 10.0], 0.9, 1),
            ([9.95, 0.0, 19.95, 10.0], 0.9, 1),  # IoU 0.0025
        )
        assert vote_boxes(others[:1], voters(others)).bboxes.tolist() == [self.FIRST]

    def test_class_by_class(self):
        dets = instances((self.FIRST, 0.9, 2), ([20.0, 0.0, 30.0, 10.0], 0.8, 0), ([40.0, 0.0, 50.0, 10.0], 0.7, 2))
        result = vote_boxes(dets, voters(dets))
        assert result.labels.tolist() == [0, 2, 2]
        torch.testing.assert_close(result.scores, torch.tensor([0.8, 0.9, 0.7]))

    def test_a_box_without_extent_stays(self):
        dets = instances(([5.0, 5.0, 5.0, 9.0], 0.8, 1))
        assert vote_boxes(dets, voters(dets)).bboxes.tolist() == [[5.0, 5.0, 5.0, 9.0]]

    def test_none(self):
        others = instances((self.FIRST, 0.8, 1))
        assert vote_boxes(others[:0], voters(others)).bboxes.shape == (0, 4)
        assert vote_boxes(others[:0], voters(others[:0])).bboxes.shape == (0, 4)

    def test_in_parts(self, monkeypatch):
        corner = torch.rand(60, 2) * 50
        dets = InstanceData(
            bboxes=torch.cat([corner, corner + 20], 1), scores=torch.rand(60), labels=torch.randint(3, (60,))
        )
        whole = vote_boxes(dets[:40], voters(dets))
        monkeypatch.setattr(votes, "VOTES", 7 * 60)
        parts = vote_boxes(dets[:40], voters(dets))
        assert torch.equal(parts.bboxes, whole.bboxes)

    @pytest.mark.parametrize("dtype", HALVES)
    def test_autocast_costs_no_pixel(self, dtype):
        dets = instances(([1003.3, 501.7, 1103.3, 601.7], 0.8, 1))
        with torch.autocast("cpu", dtype):
            torch.testing.assert_close(vote_boxes(dets, voters(dets)).bboxes, dets.bboxes)


@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.5])
def test_threshold_before_the_sigmoid_is_the_same(threshold):
    logits = LevelTensor([torch.randn(2, 6, 4, 5) * 3], 2)
    found = Found(*candidates(logits, threshold, -1, is_sigmoid=True))
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
    found = Found(*candidates(logits, 0.2, -1, is_sigmoid=False))
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


@pytest.mark.parametrize("size", [3, 64, 65, 1000])
def test_what_is_above_a_threshold_is_found_block_by_block(size):
    rows = torch.randn(3, size, generator=torch.Generator().manual_seed(size))
    rows[1, 2] = torch.nan  # hides nothing beside it
    rows[1, 0], rows[2, -1] = 9.0, 9.0
    for threshold in (-10.0, 1.5, 10.0):
        expected = (rows > threshold).nonzero(as_tuple=True)
        found = _above(rows, threshold)
        for one, other in zip(found, expected, strict=True):
            assert torch.equal(one, other)


class TestFirstLook:
    """Of many candidates the best are suppressed first."""

    CFG = dict(nms=dict(type="nms", iou_threshold=0.5), max_per_img=4)

    @staticmethod
    def scene(counts, side: float, seed=0):
        """Candidates of images, with boxes of 10 pixels within a square of ``side``: the smaller, the more overlap."""
        generator = torch.Generator().manual_seed(seed)
        total = sum(counts)
        corner = torch.rand(total, 2, generator=generator) * side
        boxes = torch.cat([corner, corner + 10], 1)
        scores = (torch.randint(1, 30, (total,), generator=generator) / 30).float()  # with ties
        labels = torch.randint(0, 2, (total,), generator=generator)
        image = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
        places = torch.arange(total)
        return Candidates(image, places, labels, scores, image, places), boxes

    @pytest.mark.parametrize("counts", [(300, 500), (300, 2), (0, 400), (30, 30)])
    @pytest.mark.parametrize("side", [500.0, 8.0])
    @pytest.mark.parametrize("agnostic", [False, True])
    def test_detections_are_those_of_all(self, counts, side, agnostic, monkeypatch):
        found, boxes = self.scene(counts, side)
        cfg = copy.deepcopy(self.CFG) | dict(min_bbox_size=0)
        cfg["nms"]["class_agnostic"] = agnostic
        looks = []

        def read(index):
            looks.append(len(index))
            return boxes[index]

        results = suppression.suppressed(found, read, cfg, 2)
        for image, result in enumerate(results):
            mine = found.image_index == image
            nms_cfg = dict(cfg["nms"], max_num=4)
            dets, keep = batched_nms(boxes[mine], found.scores[mine], found.labels[mine], nms_cfg)
            assert torch.equal(result.bboxes, dets[:, :4])
            assert torch.equal(result.scores, dets[:, 4])
            assert torch.equal(result.labels, found.labels[mine][keep])
        if side == 500 and sum(counts) > 100:
            assert max(looks) < sum(counts)  # one look was enough
        assert "max_num" not in cfg["nms"]

    def test_soft_suppression_looks_at_all(self):
        found, boxes = self.scene((300, 300), 500.0)
        looks = []
        cfg = dict(nms=dict(type="soft_nms", iou_threshold=0.5), max_per_img=4)
        suppression.suppressed(found, lambda index: looks.append(len(index)) or boxes[index], cfg, 2)
        assert looks == [600]


def test_a_head_that_refines_gets_all_candidates(monkeypatch):
    head, seen = build("FCOSHead").eval(), []

    class Refining(type(head)):
        def refine_detections(self, detections, candidates):
            seen.append((candidates.scores > 0).sum().item())
            return detections

    maps = head(features())
    metas = [sample.metainfo for sample in samples([0, 0])]
    cfg = dict(TEST_CFG, score_thr=0.0, nms_pre=-1, max_per_img=2)
    expected = head.predict_by_feat(*maps, batch_img_metas=metas, cfg=cfg)
    head.__class__ = Refining
    found = head.predict_by_feat(*maps, batch_img_metas=metas, cfg=cfg)
    total = sum(level.shape[-1] * level.shape[-2] for level in maps[0]) * head.num_classes
    assert seen == [total, total]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one.bboxes, other.bboxes)
