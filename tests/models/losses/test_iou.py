from __future__ import annotations

import math

import pytest
import torch

from densehead.models.losses import (
    BoundedIoULoss,
    CIoULoss,
    DIoULoss,
    EIoULoss,
    GIoULoss,
    IoULoss,
    SIoULoss,
)

ALL = [IoULoss, GIoULoss, DIoULoss, CIoULoss, EIoULoss, SIoULoss, BoundedIoULoss]
SQUARE = (0.0, 0, 2, 2)
CORNER = (1.0, 1, 3, 3)  # shares a corner of area 1 with the square: IoU 1/7; hull 3 x 3
HALF = (0.0, 0, 1, 2)  # the square's left half: IoU 1/2; centres 1/2 apart
APART = (4.0, 0, 6, 2)  # a gap as wide as the square: IoU 0, signed overlap -2 x 2; hull 6 x 2, centres 4 apart


def value(loss, pred, target=SQUARE):
    return loss(torch.tensor([pred]), torch.tensor([target]), reduction_override="none")[0].tolist()


def huber(x, beta):
    return 0.5 * x * x / beta if x < beta else x - 0.5 * beta


@pytest.mark.parametrize(
    ("loss", "pred", "expected"),
    [
        (IoULoss(), CORNER, math.log(7)),
        (IoULoss(mode="linear"), CORNER, 6 / 7),
        (IoULoss(linear=True), CORNER, 6 / 7),
        (IoULoss(mode="square"), CORNER, 48 / 49),
        (IoULoss(eps=1e-3), APART, math.log(1000)),
        (GIoULoss(), CORNER, 1 - 1 / 7 + 2 / 9),
        (GIoULoss(), APART, 1 + 1 / 3),
        (DIoULoss(), CORNER, 1 - 1 / 7 + 2 / 18),
        (DIoULoss(), APART, 1 + 16 / 40),
        (CIoULoss(), CORNER, 1 - 1 / 7 + 2 / 18),  # same shape
        (CIoULoss(), HALF, 1 - 1 / 2 + 0.25 / 8),  # the shape counts above an IoU of 1/2 only
        (EIoULoss(), CORNER, huber(6 / 7, 0.1)),
        (EIoULoss(smooth_point=0.6), HALF, 0.5 * 0.25 / 0.6),
        (EIoULoss(), (2.0, 2, 4, 4), huber(1 - 0 / 8, 0.1)),
        (SIoULoss(), SQUARE, 0.0),
        (BoundedIoULoss(beta=1e-6), HALF, [1 - (2 - 1) / (2 + 1), 0, 1 / 2, 0]),
    ],
    ids=lambda item: type(item).__name__ if isinstance(item, torch.nn.Module) else None,
)
def test_by_hand(loss, pred, expected):
    assert value(loss, pred) == pytest.approx(expected, abs=2e-3 if isinstance(loss, BoundedIoULoss) else 1e-5)


def test_shape_term_of_ciou_by_hand():
    # 4 x 2 inside 4 x 3, the top sides together: IoU 2/3; centres 1/2 apart, hull 4 x 3
    aspect = 4 / math.pi**2 * (math.atan(4 / 3) - math.atan(4 / 2)) ** 2
    expected = 1 - 2 / 3 + 0.25 / 25 + aspect * aspect / (1 - 2 / 3 + aspect)
    assert value(CIoULoss(), (0.0, 0, 4, 2), (0.0, 0, 4, 3)) == pytest.approx(expected, abs=1e-5)


def test_factor_of_the_shape_term_is_a_constant_for_the_gradient():
    target = torch.tensor([0.0, 0, 4, 3], dtype=torch.float64)

    def loss(box, factor):
        # a box within the target that shares its top left corner
        width, height = box[2], box[3]
        distance = ((4 - width) ** 2 + (3 - height) ** 2) / 4 / 25
        aspect = 4 / math.pi**2 * (math.atan(4 / 3) - torch.atan(width / height)) ** 2
        iou = width * height / 12
        return 1 - iou + distance + (aspect / (1 - iou + aspect) if factor is None else factor) * aspect

    ours, frozen, free = (torch.tensor([0.0, 0, 3.5, 2], dtype=torch.float64, requires_grad=True) for _ in range(3))
    CIoULoss(eps=0)(ours[None], target[None]).backward()
    aspect = 4 / math.pi**2 * (math.atan(4 / 3) - math.atan(3.5 / 2)) ** 2
    loss(frozen, aspect / (1 - 7 / 12 + aspect)).backward()
    loss(free, None).backward()
    torch.testing.assert_close(ours.grad[2:], frozen.grad[2:])
    assert not torch.allclose(free.grad[2:], frozen.grad[2:])


def test_extended_intersection_grows_with_the_gap():
    # Above 1, without bound, where the IoU loss stays at 1
    near, far = (value(EIoULoss(), (x, 0.0, x + 2, 2.0)) for x in (3.0, 6.0))
    assert 1 < near < far
    # gap 1: signed width -1, its height counted from the hull's top to both far sides: (2 + 0); union 8 + 2
    assert near == pytest.approx(1 + 2 / 10 - 0.05, abs=1e-5)


def test_siou_by_hand():
    # the square moved by 1 to the right: hull 3 x 2, IoU 1/3; no angle, so gamma = 2
    expected = 1 - (1 / 3 - 0.5 * (2 - math.exp(2 * (1 / 3) ** 2) - 1))
    assert value(SIoULoss(), (1.0, 0, 3, 2)) == pytest.approx(expected, abs=1e-4)
    # moved diagonally: sin(2 * 45 degrees) = 1, so gamma = 1 (and -1 with the paper's sign)
    for neg_gamma, gamma in ((False, 1), (True, -1)):
        distance = 2 - 2 * math.exp(gamma * (1 / 3) ** 2)
        expected = 1 - (1 / 7 - 0.5 * distance)
        assert value(SIoULoss(neg_gamma=neg_gamma), CORNER) == pytest.approx(expected, abs=1e-4)
    # the left half: centres 1/2 apart, widths 1 and 2
    distance = 1 - math.exp(2 * (0.5 / 2) ** 2)
    shape = (1 - math.exp(-0.5)) ** 4
    assert value(SIoULoss(), HALF) == pytest.approx(1 - (0.5 - 0.5 * (distance + shape)), abs=1e-4)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    "pred",
    [SQUARE, (1.0, 1, 1, 1), (3.0, 3, 1, 1), (0.0, 0, 2, 0), (1e6, 1e6, 2e6, 2e6), (-1e4, -1e4, 1e4, 1e4)],
    ids=["perfect", "point", "inside out", "line", "far", "large"],
)
@pytest.mark.parametrize("target", [SQUARE, (0.0, 0, 1000, 1000), (1.0, 1, 1, 1)], ids=["square", "large", "point"])
def test_odd_boxes_have_finite_losses_and_gradients(kind, pred, target):
    boxes = torch.tensor([pred], requires_grad=True)
    loss = kind()(boxes, torch.tensor([target]))
    loss.backward()
    assert loss.isfinite()
    assert boxes.grad.isfinite().all()


@pytest.mark.parametrize("kind", ALL)
def test_a_perfect_large_box_costs_nothing(kind):
    # eps vanishes beside an area of 10^6: an IoU of exactly 1
    boxes = torch.tensor([[0.0, 0, 1000, 1000]], requires_grad=True)
    loss = kind()(boxes, boxes.detach())
    loss.backward()
    assert loss.item() == pytest.approx(0, abs=1e-5)
    assert boxes.grad.isfinite().all()


@pytest.mark.parametrize("kind", ALL)
def test_descent_finds_the_target(kind):
    """Following the gradient brings an overlapping box to the target."""
    boxes = torch.tensor([[10.0, 12, 50, 60]], requires_grad=True)
    target = torch.tensor([[14.0, 10, 58, 52]])
    optimizer = torch.optim.Adam([boxes], lr=0.5)
    loss = kind()
    for _ in range(150):
        optimizer.zero_grad()
        loss(boxes, target).backward()
        optimizer.step()
    assert (boxes - target).abs().max() < 2


def test_errors():
    with pytest.raises(ValueError, match=r"mode of IoULoss must be one of .* but got 'cubic'"):
        IoULoss(mode="cubic")
    with pytest.raises(ValueError, match=r"GIoULoss takes boxes of shape \(N, 4\), but got pred \(3, 5\)"):
        GIoULoss()(torch.ones(3, 5), torch.ones(3, 5))


@pytest.mark.parametrize("kind", ALL)
def test_equals_mmdetection_on_boxes_apart_and_inside_out(kind):
    theirs = pytest.importorskip("mmdet.models.losses", reason="compares with mmdetection, which is not installed here")
    generator = torch.Generator().manual_seed(0)
    pred, target = torch.rand(2, 200, 4, generator=generator) * 40
    target = torch.cat((target[:, :2], target[:, :2] + target[:, 2:] + 1), 1)
    values, grads = [], []
    for module in (kind(), getattr(theirs, kind.__name__)()):
        boxes = pred.clone().requires_grad_()
        values.append(module(boxes, target, reduction_override="none"))
        values[-1].sum().backward()
        grads.append(boxes.grad)
    torch.testing.assert_close(*values, rtol=2e-4, atol=1e-4)
    torch.testing.assert_close(*grads, rtol=1e-3, atol=1e-3 * grads[1].abs().max().item())
