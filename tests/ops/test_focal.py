from __future__ import annotations

import math

import pytest
import torch
from torch.autograd import gradcheck

from densehead.ops import sigmoid_focal_loss


def naive(logit, is_positive, gamma, alpha):
    score = 1 / (1 + math.exp(-logit))
    if is_positive:
        return -alpha * (1 - score) ** gamma * math.log(score)
    return -(1 - alpha) * score**gamma * math.log(1 - score)


@pytest.mark.parametrize(("gamma", "alpha"), [(2.0, 0.25), (1.5, 0.75), (0.0, 0.5)])
def test_equals_a_loop(gamma, alpha):
    logits = torch.randn(9, 3, generator=torch.Generator().manual_seed(0)) * 3
    labels = torch.arange(9) % 4  # class 3 is background
    expected = [[naive(logits[i, c].item(), labels[i] == c, gamma, alpha) for c in range(3)] for i in range(9)]
    torch.testing.assert_close(sigmoid_focal_loss(logits, labels, gamma, alpha), torch.tensor(expected))


def test_small_losses_keep_their_digits():
    # sigmoid(-12) = 6.1e-6: 1 - (1 - p) would be 2% off
    found = sigmoid_focal_loss(torch.tensor([[-12.0]]), torch.tensor([1])).item()
    assert found == pytest.approx(naive(-12.0, False, 2.0, 0.25), rel=1e-5)


def test_sure_and_wrong_is_finite():
    logits = torch.tensor([[200.0, -200.0]], requires_grad=True)
    loss = sigmoid_focal_loss(logits, torch.tensor([1]))  # 200 is wrong by 200, and so is -200
    torch.testing.assert_close(loss, torch.tensor([[150.0, 50.0]]))
    loss.sum().backward()
    torch.testing.assert_close(logits.grad, torch.tensor([[0.75, -0.25]]))


def test_gradient():
    logits = torch.randn(5, 3, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: sigmoid_focal_loss(x, torch.tensor([0, 1, 2, 3, 3])), logits)


def test_half_precision_and_no_rows():
    assert sigmoid_focal_loss(torch.ones(1, 2).half(), torch.tensor([0])).dtype == torch.float32
    assert sigmoid_focal_loss(torch.ones(0, 2), torch.ones(0).long()).shape == (0, 2)
