"""The reference's values and gradients, for every loss that it has numbers of."""

from __future__ import annotations

import copy

import pytest

import densehead.models.losses  # noqa: F401  registers
from densehead.registry import MODELS
from tests.golden import assert_close, cases, load


@pytest.mark.parametrize("reduction", ["sum_avg", "mean", "none"])
@pytest.mark.parametrize("name", cases("loss_"))
def test_equals_the_reference(name, reduction):
    meta, arrays = load(name)
    cfg = dict(meta["cfg"], type=meta["type"])
    before = copy.deepcopy(cfg)
    loss = MODELS.build(cfg)
    assert cfg == before
    targets = [arrays[key] for key in sorted(arrays) if key.startswith("target/")]
    target = targets[0] if len(targets) == 1 else tuple(targets)
    pred = arrays["pred"].requires_grad_()
    if reduction == "sum_avg":
        weight = arrays["weight"] if meta["weighted"] else None
        value = loss(pred, target, weight, avg_factor=meta["avg_factor"])
    else:
        value = loss(pred, target, reduction_override=reduction)
    value.sum().backward()
    assert_close(value, arrays[f"{reduction}/value"], relative=2e-4)
    assert_close(pred.grad, arrays[f"{reduction}/grad"], relative=1e-3, name="gradient")
