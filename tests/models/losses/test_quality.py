from __future__ import annotations

import math

import pytest
import torch

from densehead.models.losses import DistributionFocalLoss, QualityFocalLoss, VarifocalLoss, functional


def entropy(score, target):
    return -target * math.log(score) - (1 - target) * math.log(1 - score)


@pytest.mark.parametrize("activated", [False, True])
@pytest.mark.parametrize("beta", [1.0, 2.0])
def test_quality_focal_loss_equals_a_loop(beta, activated):
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0))
    labels, quality = torch.tensor([0, 2, 3, 1, 3]), torch.tensor([0.9, 0.3, 0.8, 0.0, 0.0])
    expected = []
    for i, label in enumerate(labels.tolist()):
        targets = [quality[i].item() if label == c else 0.0 for c in range(3)]
        scores = logits[i].sigmoid().tolist()
        expected.append(sum(abs(t - s) ** beta * entropy(s, t) for s, t in zip(scores, targets)))
    loss = QualityFocalLoss(beta=beta, reduction="none", activated=activated)
    pred = logits.sigmoid() if activated else logits
    torch.testing.assert_close(loss(pred, (labels, quality)), torch.tensor(expected))
    one_hot = torch.nn.functional.one_hot(labels, 4)[:, :3] * quality[:, None]
    torch.testing.assert_close(loss(pred, one_hot), torch.tensor(expected))


@pytest.mark.parametrize("iou_weighted", [False, True])
def test_varifocal_loss_equals_a_loop(iou_weighted):
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    target = torch.tensor([[0.9, 0, 0], [0, 0, 0], [0, 0.2, 0], [0, 0, 1]])
    found = VarifocalLoss(alpha=0.6, gamma=1.5, iou_weighted=iou_weighted, reduction="none")(logits, target)
    for i in range(4):
        for c in range(3):
            score, t = logits[i, c].sigmoid().item(), target[i, c].item()
            weight = (t if iou_weighted else 1) if t > 0 else 0.6 * score**1.5
            assert found[i, c].item() == pytest.approx(weight * entropy(score, t), rel=1e-5)


def test_distribution_focal_loss_by_hand():
    logits = torch.tensor([[0.0, 1, 2, 3]]).expand(4, 4)
    log_score = logits[0].log_softmax(0).tolist()
    found = DistributionFocalLoss(reduction="none")(logits, torch.tensor([0.0, 1.25, 2.5, 3.0]))
    expected = [
        -log_score[0],
        -0.75 * log_score[1] - 0.25 * log_score[2],
        -0.5 * log_score[2] - 0.5 * log_score[3],
        -log_score[3],  # the last bin has none to its right
    ]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_the_mean_comes_with_the_loss():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(6, 5, generator=generator, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([0.0, 0.3, 1.0, 2.5, 3.9, 4.0], dtype=torch.float64)
    weight, avg_factor = torch.rand(6, generator=generator), torch.tensor(3.0)
    loss, mean = DistributionFocalLoss(loss_weight=0.25).with_mean(logits, target, weight, avg_factor)
    torch.testing.assert_close(loss, DistributionFocalLoss(loss_weight=0.25)(logits, target, weight, avg_factor))
    torch.testing.assert_close(mean, logits.softmax(-1) @ torch.arange(5.0, dtype=torch.float64))
    assert torch.autograd.gradcheck(functional.mean_and_focal_loss, (logits, target))
    assert torch.autograd.gradgradcheck(functional.mean_and_focal_loss, (logits, target))
    (slope,) = torch.autograd.grad(functional.distribution_focal_loss(logits, target).sum(), logits)
    beside = torch.nn.functional.one_hot(target.long().clamp(max=3) + torch.tensor([[0], [1]]), 5)
    nearness = torch.stack([1 - (target - target.long().clamp(max=3)), target - target.long().clamp(max=3)])
    torch.testing.assert_close(slope, logits.softmax(-1) - (beside * nearness[..., None]).sum(0))


def test_config_errors():
    for kind in (QualityFocalLoss, VarifocalLoss):
        with pytest.raises(ValueError, match=f"{kind.__name__} has use_sigmoid=True only"):
            kind(use_sigmoid=False)
    with pytest.raises(ValueError, match="alpha of VarifocalLoss must not be negative, but got -1"):
        VarifocalLoss(alpha=-1)
