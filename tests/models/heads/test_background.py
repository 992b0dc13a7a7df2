"""The loss of everything as background, with the logits of a few places: against PyTorch's own differentiation."""

import pytest
import torch
from torch.nn import functional as F

from densehead.models.heads.background import background_and_logits
from densehead.models.losses.dense import CHUNK
from densehead.structures import LevelTensor

INDEX = (torch.tensor([0, 1, 1, 0]), torch.tensor([2, 0, 0, 2]), torch.tensor([3, 8, 8, 4]))  # one of them twice


def plain(cls_logits, objectness, factor, image, label, prior):
    """As mmdetection writes it."""
    joint = cls_logits.sigmoid() * objectness.sigmoid()
    loss = joint**2 * F.binary_cross_entropy(joint, torch.zeros_like(joint), reduction="none")
    return factor * loss.sum(), cls_logits[image, 0, label, prior]


def ours(cls_logits, objectness, factor, image, label, prior):
    """The maps as one piece."""
    tensors = [LevelTensor.of_joined(one) for one in (cls_logits, objectness)]
    return background_and_logits(*tensors, factor, tensors[0].shares(image, prior), label)


def maps(dtype=torch.float64, classes: int = 4, channels_last: bool = False):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 1, classes, 9, generator=generator, dtype=torch.float64) * 2
    if channels_last:
        logits = logits.transpose(2, 3).contiguous().transpose(2, 3)
    objectness = torch.randn(2, 1, 1, 9, generator=generator, dtype=torch.float64)
    return logits.to(dtype).requires_grad_(), objectness.to(dtype).requires_grad_()


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("pieces", [7, 20, 1000])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_value_and_gradient(dtype, pieces, channels_last, monkeypatch):
    monkeypatch.setitem(CHUNK, "cpu", pieces)
    leaves = maps(dtype, channels_last=channels_last)
    exact = [leaf.detach().double().requires_grad_() for leaf in leaves]
    factor = torch.tensor(0.3)
    total, picked = ours(*leaves, factor, *INDEX)
    expected_total, expected_picked = plain(*exact, factor.double(), *INDEX)
    full = torch.float64 if dtype == torch.float64 else torch.float32
    assert total.dtype == picked.dtype == full
    tolerance = {torch.float64: 1e-7, torch.float32: 1e-5, torch.bfloat16: 1e-2}[dtype]
    torch.testing.assert_close(total.double(), expected_total, rtol=max(tolerance / 10, 1e-7), atol=0)
    torch.testing.assert_close(picked.double(), expected_picked)
    grads = torch.autograd.grad(2 * total + picked.square().sum(), leaves)
    expected = torch.autograd.grad(2 * expected_total + expected_picked.square().sum(), exact)
    for grad, reference in zip(grads, expected):
        assert grad.dtype == dtype
        torch.testing.assert_close(grad.double(), reference, rtol=tolerance, atol=tolerance / 10)


def test_gradcheck():
    def function(*leaves):
        total, picked = ours(*leaves, torch.tensor(0.3, dtype=torch.float64), *INDEX)
        return total, picked

    assert torch.autograd.gradcheck(function, maps())


def test_one_class():
    leaves, index = maps(classes=1), (INDEX[0], torch.zeros(4, dtype=torch.long), INDEX[2])
    total, _ = ours(*leaves, torch.tensor(1.0), *index)
    expected, _ = plain(*leaves, 1.0, *index)
    torch.testing.assert_close(total, expected)
    for found, theirs in zip(torch.autograd.grad(total, leaves), torch.autograd.grad(expected, leaves)):
        torch.testing.assert_close(found, theirs)


def test_no_place_to_read():
    nothing = torch.zeros(0, dtype=torch.long)
    total, picked = ours(*maps(), torch.tensor(1.0), nothing, nothing, nothing)
    assert picked.shape == (0,)
    assert total > 0


def test_only_one_of_the_two_is_needed():
    leaves = maps()
    _, picked = ours(*leaves, torch.tensor(1.0), *INDEX)
    grad, _ = torch.autograd.grad(picked.sum(), leaves, allow_unused=True)
    assert grad.sum() == 4
    assert (grad != 0).sum() == 3
