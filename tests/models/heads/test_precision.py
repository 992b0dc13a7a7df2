"""Heads under autocast: losses in float32, near those of single precision, and finite whatever the logits are."""

from __future__ import annotations

import re

import pytest
import torch

from tests.models.heads.heads import CONFIGS, HALVES, build, features, needs_half_on_cpu, samples, total

all_heads = pytest.mark.parametrize("name", CONFIGS)
halves = pytest.mark.parametrize("dtype", HALVES)
# share of the gradient that differs: the layers' inputs and weights are rounded to 8 and to 11 bits
ROUNDING = {torch.bfloat16: 0.1, torch.float16: 0.02}

LAST_BIAS = re.compile(r"(cls|centerness|objectness|iou)(\.\d)?\.bias$")
# which priors these take depends on what is predicted, so on its last bits: gradients are of one assignment
BY_PREDICTIONS = ("PAA", "NanoDet")


def step(name, dtype=None, scaler=None, assignment=None):
    """Return the losses, all gradients as the optimizer gets them, and the assignment, which may be given."""
    head = build(name)
    if assignment is not None:
        head.assign = lambda *args: assignment
    with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None):
        losses = head.loss(features(), samples([4, 2]))
    loss = total(losses)
    (scaler.scale(loss) if scaler else loss).backward()
    if scaler:
        scaler.unscale_(torch.optim.SGD(head.parameters(), 0.1))
    losses = {key: value for key, value in losses.items() if "loss" in key}
    return losses, torch.cat([value.grad.flatten() for value in head.parameters()]), head.last_assignment


def scaler():
    return torch.amp.GradScaler("cpu", init_scale=1024.0)


@needs_half_on_cpu
@all_heads
@halves
def test_losses_and_gradients_are_near_single_precision(name, dtype):
    expected, exact, assignment = step(name)
    losses, gradient, _ = step(name, dtype, scaler())
    for key, value in losses.items():
        assert value.dtype == torch.float32, key
        torch.testing.assert_close(value, expected[key], rtol=0.05, atol=0.02)
    if name.startswith(BY_PREDICTIONS):
        _, gradient, _ = step(name, dtype, scaler(), assignment)
    assert gradient.dtype == torch.float32
    assert gradient.isfinite().all()
    assert (gradient - exact).norm() < ROUNDING[dtype] * exact.norm()


@all_heads
@halves
def test_losses_of_half_maps_are_those_of_single_precision(name, dtype):
    """To the last bits: nothing between the maps and the losses is rounded to half precision."""
    head, batch = build(name), samples([4, 2])
    with torch.no_grad(), torch.autocast("cpu", dtype):
        maps = head(features())
    assert any(level.dtype == dtype for one in maps for level in one)

    def losses_of(maps):
        losses = head.loss_by_feat(*maps, [one.gt_instances for one in batch], [one.metainfo for one in batch])
        total(losses).backward()
        return losses, [level.grad for one in maps for level in one]

    exact, gradients = losses_of([[level.float().requires_grad_() for level in one] for one in maps])
    with torch.autocast("cpu", dtype):
        found, of_half = losses_of([[level.requires_grad_() for level in one] for one in maps])
    for key, value in exact.items():
        torch.testing.assert_close(found[key], value, rtol=1e-6, atol=1e-7, msg=key)
    for one, other in zip(of_half, gradients):
        torch.testing.assert_close(one, other.to(one.dtype), rtol=torch.finfo(dtype).eps, atol=1e-7)


@needs_half_on_cpu
def test_an_overflow_of_the_scale_is_seen_and_the_step_left_out():
    """float16 ends at 65504: a scale that is too large makes infinite gradients, and the scaler lowers it."""
    head = build("GFLHead")
    before = [value.clone() for value in head.parameters()]
    optimizer, scaler = torch.optim.SGD(head.parameters(), 0.1), torch.amp.GradScaler("cpu", init_scale=2.0**40)
    with torch.autocast("cpu", torch.float16):
        loss = total(head.loss(features(), samples([4, 2])))
    scaler.scale(loss).backward()
    scaler.step(optimizer)
    scaler.update()
    assert scaler.get_scale() == 2.0**39
    assert all(torch.equal(value, old) for value, old in zip(head.parameters(), before))


@all_heads
@halves
@pytest.mark.parametrize("logit", [60.0, -60.0, 500.0, -500.0])
def test_large_logits(name, dtype, logit):
    """Scores of exactly 0 and 1 in half precision: no logarithm of zero, no 0 x infinity."""
    head = build(name)
    scores = [key for key, _ in head.named_parameters() if LAST_BIAS.search(key)]
    assert scores
    for key in scores:
        torch.nn.init.constant_(head.get_parameter(key), logit)
    feats = [feature.requires_grad_() for feature in features()]
    with torch.autocast("cpu", dtype):
        losses = head.loss(feats, samples([4, 2]))
    assert all(value.isfinite() for value in losses.values()), losses
    total(losses).backward()
    for key, value in head.named_parameters():
        assert value.grad.isfinite().all(), key


@halves
@pytest.mark.parametrize(("name", "layer"), [("FCOSHead", "conv_reg"), ("VFNetHead", "vfnet_reg")])
def test_distances_beyond_half_precision(name, layer, dtype):
    """These heads take the exponential of what they put out: e^12 is more than float16 holds."""
    head = build(name)
    torch.nn.init.constant_(head.get_parameter(f"{layer}.bias"), 12.0)
    with torch.autocast("cpu", dtype):
        losses = head.loss(features(), samples([4, 2]))
    total(losses).backward()
    assert all(value.isfinite() for value in losses.values()), losses
    assert all(value.grad.isfinite().all() for value in head.parameters())


@all_heads
@halves
def test_an_image_without_objects(name, dtype):
    head = build(name)
    with torch.autocast("cpu", dtype):
        losses = head.loss(features(), samples([0, 0]))
    total(losses).backward()
    assert all(value.isfinite() for value in losses.values())
    assert all(value.grad.isfinite().all() for value in head.parameters())


@all_heads
@halves
def test_boxes_and_scores_are_float32(name, dtype):
    head = build(name).eval()
    batch = samples([4, 2])
    with torch.no_grad(), torch.autocast("cpu", dtype):
        found = head.predict(features(), batch)
    for one in found:
        assert one.bboxes.dtype == one.scores.dtype == torch.float32
        assert one.bboxes.isfinite().all()
