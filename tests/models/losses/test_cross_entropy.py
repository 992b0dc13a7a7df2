from __future__ import annotations

import math
import warnings

import pytest
import torch

from densehead.models.losses import CrossEntropyLoss


def binary(logit, target, positive_weight=1.0):
    score = 1 / (1 + math.exp(-logit))
    return -positive_weight * target * math.log(score) - (1 - target) * math.log(1 - score)


def test_sigmoid_of_class_indices_equals_a_loop():
    logits = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([0, 1, 2, 3, 7, -1, -100, 1])  # 3 and 7 are background, negative ones are ignored
    found = CrossEntropyLoss(use_sigmoid=True, class_weight=[1.0, 2.0, 3.0])(logits, labels, reduction_override="none")
    for i, label in enumerate(labels.tolist()):
        for c in range(3):
            expected = binary(logits[i, c].item(), float(label == c), c + 1.0) if label >= 0 else 0.0
            assert found[i, c].item() == pytest.approx(expected, rel=1e-5, abs=1e-7)


@pytest.mark.parametrize("shape", [(6,), (6, 2)])
def test_sigmoid_of_soft_targets_equals_a_loop(shape):
    logits, target = torch.randn(shape), torch.rand(shape)
    found = CrossEntropyLoss(use_sigmoid=True)(logits, target, reduction_override="none")
    expected = [binary(x, t) for x, t in zip(logits.flatten().tolist(), target.flatten().tolist())]
    torch.testing.assert_close(found.flatten(), torch.tensor(expected))


def test_softmax_equals_a_loop():
    logits, labels = torch.randn(5, 3), torch.tensor([0, 1, 2, 1, 9])
    loss = CrossEntropyLoss(class_weight=[1.0, 2.0, 3.0], ignore_index=9, avg_non_ignore=True)
    scores = logits.exp() / logits.exp().sum(1, keepdim=True)
    every = [-(label + 1) * math.log(scores[i, label]) for i, label in enumerate(labels.tolist()[:4])]
    torch.testing.assert_close(loss(logits, labels, reduction_override="none"), torch.tensor([*every, 0.0]))
    assert loss(logits, labels).item() == pytest.approx(sum(every) / 4)
    weight = torch.tensor([1.0, 0, 2, 1, 5])
    expected = (every[0] + 2 * every[2] + every[3]) / 3
    assert loss(logits, labels, weight, avg_factor=3.0).item() == pytest.approx(expected)


@pytest.mark.parametrize("use_sigmoid", [False, True])
def test_ignored_labels_and_what_the_mean_counts(use_sigmoid):
    logits, labels = torch.randn(4, 3), torch.tensor([0, 255, 2, 255])
    with pytest.warns(UserWarning, match="ignore_index=255.* avg_non_ignore=True"):
        loss = CrossEntropyLoss(use_sigmoid=use_sigmoid, ignore_index=255)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        counted = CrossEntropyLoss(use_sigmoid=use_sigmoid, ignore_index=255, avg_non_ignore=True)
    every = CrossEntropyLoss(use_sigmoid=use_sigmoid)(logits[::2], labels[::2], reduction_override="none")
    torch.testing.assert_close(loss(logits, labels), every.sum() / every.numel() / 2)
    torch.testing.assert_close(counted(logits, labels), every.mean())
    called = CrossEntropyLoss(use_sigmoid=use_sigmoid)(logits, labels, ignore_index=255, reduction_override="sum")
    torch.testing.assert_close(called, every.sum())


def test_all_ignored_is_zero():
    loss = CrossEntropyLoss(ignore_index=1, avg_non_ignore=True)
    assert loss(torch.randn(2, 3), torch.tensor([1, 1])).item() == 0


def test_masks_are_refused():
    with pytest.raises(ValueError, match="no use_mask=True here"):
        CrossEntropyLoss(use_mask=True)


@pytest.mark.parametrize("use_sigmoid", [False, True])
def test_equals_mmdetection(use_sigmoid):
    theirs = pytest.importorskip("mmdet.models.losses", reason="compares with mmdetection, which is not installed here")
    logits, weight = torch.randn(9, 4), torch.rand(9)
    labels = torch.tensor([0, 1, 2, 3, 0, 1, 2, 3, 2])
    cfg = {"use_sigmoid": use_sigmoid, "class_weight": [0.5, 1.0, 2.0, 1.5], "ignore_index": 2, "loss_weight": 0.7}
    for more in ({"avg_non_ignore": True}, {"reduction": "sum"}, {"reduction": "none"}):
        ours, mmdet = CrossEntropyLoss(**cfg, **more), theirs.CrossEntropyLoss(**cfg, **more)
        torch.testing.assert_close(ours(logits, labels), mmdet(logits, labels))
        torch.testing.assert_close(ours(logits, labels, weight), mmdet(logits, labels, weight))
