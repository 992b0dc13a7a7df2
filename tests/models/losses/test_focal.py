from __future__ import annotations

import math

import pytest
import torch

from densehead.models.losses import FocalLoss


def naive(score, target, gamma, alpha):
    balance = alpha * target + (1 - alpha) * (1 - target)
    miss = (1 - score) * target + score * (1 - target)
    return balance * miss**gamma * (-target * math.log(score) - (1 - target) * math.log(1 - score))


@pytest.mark.parametrize("activated", [False, True])
@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (1.3, 0.6)])
def test_all_forms_of_targets_equal_a_loop(gamma, alpha, activated):
    logits = torch.randn(8, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(8) % 4
    one_hot = torch.nn.functional.one_hot(labels, 4)[:, :3]
    soft = torch.rand(8, 3)
    loss = FocalLoss(gamma=gamma, alpha=alpha, reduction="none", activated=activated)
    pred = logits.sigmoid() if activated else logits
    for target, numbers in ((labels, one_hot), (one_hot, one_hot), (soft, soft)):
        expected = [
            naive(score, t, gamma, alpha)
            for score, t in zip(logits.sigmoid().flatten().tolist(), numbers.flatten().tolist(), strict=True)
        ]
        torch.testing.assert_close(loss(pred, target).flatten(), torch.tensor(expected), rtol=1e-4, atol=1e-6)


def test_by_hand():
    # a score of 1/2: misses by 1/2 on either side, -log 1/2
    found = FocalLoss(reduction="none")(torch.zeros(2, 1), torch.tensor([0, 1]))
    torch.testing.assert_close(found, math.log(2) / 4 * torch.tensor([[0.25], [0.75]]))


def test_config_errors():
    with pytest.raises(ValueError, match="use_sigmoid=True only; softmax scores: type='CrossEntropyLoss'"):
        FocalLoss(use_sigmoid=False)
    with pytest.raises(ValueError, match=r"alpha of FocalLoss must lie in \[0, 1\], but got -1"):
        FocalLoss(alpha=-1)


def test_equals_mmdetection_in_every_form():
    theirs = pytest.importorskip("mmdet.models.losses", reason="compares with mmdetection, which is not installed here")
    logits, labels = torch.randn(30, 4) * 3, torch.arange(30) % 5
    soft, weight = torch.rand(30, 4), torch.rand(30)
    for activated in (False, True):
        pred = logits.sigmoid() if activated else logits
        cfg = {"gamma": 1.5, "alpha": 0.3, "loss_weight": 2.0, "activated": activated}
        ours, mmdet = FocalLoss(**cfg), theirs.FocalLoss(**cfg)
        for target in (labels, soft):
            for some in (weight, weight[:, None].expand(30, 4), weight.repeat_interleave(4)):
                found = ours(pred, target, some, avg_factor=7.0)
                torch.testing.assert_close(found, mmdet(pred, target, some, avg_factor=7.0))
