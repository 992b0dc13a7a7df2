"""Weights, means and precision, for every loss alike."""

from __future__ import annotations

import pytest
import torch

from densehead.models.losses import weighted_reduction
from densehead.registry import MODELS

ELEMENT_LOSSES = ["L1Loss", "MSELoss", "SmoothL1Loss"]
BOX_LOSSES = ["IoULoss", "GIoULoss", "DIoULoss", "CIoULoss", "EIoULoss", "SIoULoss", "BoundedIoULoss"]
CLASS_LOSSES = ["FocalLoss", "CrossEntropyLoss", "QualityFocalLoss", "VarifocalLoss"]
LOSSES = ELEMENT_LOSSES + BOX_LOSSES + CLASS_LOSSES + ["DistributionFocalLoss"]


def example(kind, rows=6, dtype=torch.float32):
    """A loss module, predictions and targets."""
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randn(rows, 4, generator=generator, dtype=dtype)
    loss = MODELS.build({"type": kind, "use_sigmoid": True} if kind in CLASS_LOSSES else {"type": kind})
    if kind in BOX_LOSSES:
        corner = torch.rand(rows, 2, generator=generator, dtype=dtype) * 8
        target = torch.cat((corner, corner + 9), 1)
        return loss, target + numbers, target
    if kind in ELEMENT_LOSSES:
        return loss, numbers, numbers.flip(1)
    if kind == "DistributionFocalLoss":
        return loss, numbers, torch.rand(rows, generator=generator, dtype=dtype) * 3
    labels = torch.arange(rows) % 5
    quality = torch.rand(rows, generator=generator, dtype=dtype)
    one_hot = torch.nn.functional.one_hot(labels, 5)[:, :4] * quality[:, None]
    target = {"QualityFocalLoss": (labels, quality), "VarifocalLoss": one_hot}.get(kind, labels)
    return loss, numbers, target


@pytest.mark.parametrize("kind", LOSSES)
def test_reductions_agree(kind):
    loss, pred, target = example(kind)
    every = loss(pred, target, reduction_override="none")
    torch.testing.assert_close(loss(pred, target), every.mean())
    torch.testing.assert_close(loss(pred, target, reduction_override="sum"), every.sum())
    torch.testing.assert_close(loss(pred, target, avg_factor=3.0), every.sum() / 3)
    torch.testing.assert_close(loss(pred, target, avg_factor=torch.tensor(3.0)), every.sum() / 3)
    weight = torch.arange(6.0)
    rows = weight if every.ndim == 1 else weight[:, None]
    torch.testing.assert_close(loss(pred, target, weight, avg_factor=3.0), (every * rows).sum() / 3)
    # as many numbers as the loss has: (6, 4) of each element; for a loss a box, of which the mean counts
    of_each = torch.arange(24.0).view(6, 4)
    expected = every * (of_each if every.ndim == 2 else of_each.mean(1))
    if every.ndim == 2 or kind in BOX_LOSSES:
        torch.testing.assert_close(loss(pred, target, of_each, reduction_override="none"), expected)


@pytest.mark.parametrize("kind", LOSSES)
def test_loss_weight_scales(kind):
    loss, pred, target = example(kind)
    expected = loss(pred, target) * 2.5
    loss.loss_weight = 2.5
    torch.testing.assert_close(loss(pred, target), expected)


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize(
    "options", [{}, {"avg_factor": 0.0}, {"avg_factor": torch.tensor(0.0)}, {"reduction_override": "sum"}]
)
def test_no_rows_give_zero_connected_to_the_graph(kind, options):
    loss, pred, target = example(kind, rows=0)
    pred.requires_grad_()
    value = loss(pred, target, weight=torch.zeros(0), **options)
    assert value.item() == 0
    value.backward()
    assert pred.grad.shape == (0, 4)
    assert loss(pred, target, reduction_override="none").numel() == 0


@pytest.mark.parametrize("kind", LOSSES)
def test_no_row_that_counts_gives_zero_and_zero_gradient(kind):
    loss, pred, target = example(kind)
    pred.requires_grad_()
    value = loss(pred, target, weight=torch.zeros(6), avg_factor=0.0)
    value.backward()
    assert value.item() == 0
    assert pred.grad.abs().max() == 0


@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(kind, dtype):
    loss, pred, target = example(kind)
    pred = pred.to(dtype).requires_grad_()
    wide = pred.detach().float().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(pred, target, avg_factor=torch.tensor(2.0))
    expected = loss(wide, target, avg_factor=2.0)
    value.backward()
    expected.backward()
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(pred.grad, wide.grad.to(dtype))


def test_autocast_ends_at_the_loss(monkeypatch):
    loss, pred, target = example("L1Loss")
    monkeypatch.setattr(loss, "per_element", lambda pred, target: pred @ pred.t())
    with torch.autocast("cpu", torch.bfloat16):
        product = loss(pred, target, reduction_override="none")
    assert torch.equal(product, pred @ pred.t())


@pytest.mark.parametrize("kind", [kind for kind in LOSSES if kind != "CIoULoss"])  # whose factor is a constant
def test_gradient(kind):
    loss, pred, target = example(kind, dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda x: loss(x, target, torch.arange(6.0), avg_factor=2.0), pred.requires_grad_())


@pytest.mark.parametrize("kind", LOSSES)
def test_memory_order_does_not_matter(kind):
    loss, pred, target = example(kind)
    torch.testing.assert_close(loss(pred.t().contiguous().t(), target), loss(pred, target))


@pytest.mark.parametrize("kind", LOSSES)
def test_errors_name_what_came(kind):
    loss, pred, target = example(kind)
    with pytest.raises(ValueError, match=r"reduction must be one of .* but got 'average'"):
        type(loss)(reduction="average")
    with pytest.raises(ValueError, match=r"reduction_override must be one of .* but got 'average'"):
        loss(pred, target, reduction_override="average")
    with pytest.raises(ValueError, match=r"avg_factor .* needs reduction='mean', but got 'sum'"):
        loss(pred, target, avg_factor=1.0, reduction_override="sum")
    with pytest.raises(ValueError, match=r"weight must have the shape of the loss, .* but got \(5,\)"):
        loss(pred, target, weight=torch.ones(5))
    if kind in BOX_LOSSES + ELEMENT_LOSSES:
        with pytest.raises(ValueError, match=rf"{kind} takes .* \(6, 4\).* \(5, 4\)"):
            loss(pred, target[1:])


@pytest.mark.parametrize(
    ("shape", "weight_shape"), [((6, 4), (6,)), ((6, 4), (6, 1)), ((6, 4), (24,)), ((6,), (6, 4)), ((4, 4), (4,))]
)
def test_weights_of_rows(shape, weight_shape):
    loss, weight = torch.rand(shape), torch.rand(weight_shape)
    if weight.numel() == loss.numel():
        expected = loss * weight.view(shape)
    elif weight.numel() > loss.numel():
        expected = loss * weight.mean(1)
    else:
        expected = loss * weight.view(-1, 1)
    torch.testing.assert_close(weighted_reduction(loss, weight, "none"), expected)
