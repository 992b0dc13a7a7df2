"""Losses and detections of every head at the edges of what may come."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

from densehead.models import DenseHead
from densehead.registry import MODELS
from tests.fuzz.running import CASES, try_many, try_some
from tests.models.heads.heads import total
from tests.strategies import HeadCase, HeadConfig, head_cases

DISTANCES = {"FCOSHead": (1,), "VFNetHead": (1, 2), "AutoAssignHead": (1,)}  # which maps are distances


@functools.lru_cache(maxsize=256)
def build(cfg: HeadConfig) -> DenseHead:
    torch.manual_seed(0)
    return MODELS.build(cfg.build_config())


def maps_of(case: HeadCase, head: DenseHead, feats: list[torch.Tensor]) -> tuple[list[torch.Tensor], ...]:
    """What the head puts out in its mode, or leaves with the case's numbers in their place."""
    if case.values is None:
        return head(feats)
    rng, distances = np.random.default_rng(case.values.seed), DISTANCES.get(case.head.kind, ())
    return tuple(
        [
            case.values.fill("distances" if index in distances else "logits", index, (len(feats[0]), count, *size), rng)
            for size in case.levels.sizes
        ]
        for index, count in enumerate(channels(case.head, head.training))
    )


@functools.lru_cache(maxsize=1024)
def channels(cfg: HeadConfig, training: bool) -> list[int]:
    """Channels of the maps of a head."""
    with torch.no_grad():
        return [one[0].shape[1] for one in build(cfg).train(training)([torch.zeros(1, 4, 1, 1)] * len(cfg.strides))]


def bits(tensors: list[torch.Tensor]) -> list[bytes]:
    return [one.detach().contiguous().numpy().tobytes() for one in tensors]


def truth_of(samples) -> list[torch.Tensor]:
    parts = [one for sample in samples for one in (sample.gt_instances, sample.ignored_instances)]
    return [tensor for part in parts for tensor in (part.bboxes, part.labels)]


def check(case: HeadCase) -> None:
    head, samples, feats = build(case.head), case.samples(), case.features()
    metas = [sample.metainfo for sample in samples]
    check_losses(case, head.train(), samples, feats, metas)
    check_detections(case, head.eval(), feats, metas)


def check_losses(case, head, samples, feats, metas) -> None:
    head.zero_grad()
    maps = maps_of(case, head, feats)
    given = [*feats, *truth_of(samples), *(one for level_maps in maps for one in level_maps)]
    before, metas_before = bits(given), repr(metas)
    truth, ignored = [one.gt_instances for one in samples], [one.ignored_instances for one in samples]
    losses = head.loss_by_feat(*maps, truth, metas, ignored)
    assert all(value.isfinite() for value in losses.values()), losses
    total(losses).backward()
    leaves = [*feats, *head.parameters(), *(one for level_maps in maps for one in level_maps if one.is_leaf)]
    assert all(leaf.grad.isfinite().all() for leaf in leaves if leaf.grad is not None)
    assert bits(given) == before
    assert repr(metas) == metas_before


def check_detections(case, head, feats, metas) -> None:
    with torch.no_grad():
        maps = maps_of(case, head, feats)
    given = [one for level_maps in maps for one in level_maps]
    before = bits(given)
    found = head.predict_by_feat(*maps, batch_img_metas=metas, cfg=case.test_cfg, rescale=case.rescale)
    assert len(found) == len(metas)
    for one in found:
        check_image(case, one)
    assert bits(given) == before


def check_image(case, found) -> None:
    factor = case.scale_factor if case.rescale else (1.0, 1.0)
    limit = torch.tensor([case.levels.image[1] / factor[0], case.levels.image[0] / factor[1]] * 2)
    boxes, scores, labels = found.bboxes, found.scores, found.labels
    assert boxes.shape == (len(scores), 4)
    assert labels.shape == scores.shape
    assert boxes.isfinite().all()
    assert (boxes >= 0).all()
    assert (boxes <= limit * (1 + 1e-6)).all()
    assert (boxes[:, 2:] >= boxes[:, :2]).all()
    assert ((labels >= 0) & (labels < case.head.num_classes)).all()
    assert ((scores >= 0) & (scores <= 1)).all()
    groups = labels.unique() if case.head.kind == "PAAHead" else [None]  # boxes that vote come class by class
    for scores_of in (scores if label is None else scores[labels == label] for label in groups):
        assert (scores_of[:-1] >= scores_of[1:]).all()
    assert case.test_cfg["max_per_img"] < 0 or len(scores) <= case.test_cfg["max_per_img"]


def test_some_cases():
    try_some(head_cases(), check, 250)


@pytest.mark.fuzz
def test_many_cases(record_property):
    try_many(head_cases(), check, CASES, "heads", record_property)
