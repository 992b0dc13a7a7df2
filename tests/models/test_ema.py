from __future__ import annotations

import copy
import math

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.registry import DefaultScope
from torch import nn

from densehead.models import ExpMomentumEMA


class Runner:
    iter = 0

    def __init__(self, model):
        self.model = model


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).double()


def disturb(model: nn.Module) -> None:
    """Change the model as a step of a training would, its statistics too."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter))
    model.train()(torch.randn(2, 3, 4, 4).double())


@pytest.mark.parametrize("update_buffers", [False, True])
def test_average_equals_the_formula(update_buffers):
    model = net()
    averaged = ExpMomentumEMA(model, momentum=0.1, gamma=3, update_buffers=update_buffers)
    expected = {}
    for step in range(8):
        disturb(model)
        averaged.update_parameters(model)
        share = 1.0 if step == 0 else 0.1 + 0.9 * math.exp(-(1 + step) / 3)
        for name, value in copy.deepcopy(model.state_dict()).items():
            is_parameter = name in dict(model.named_parameters())
            if name in expected and value.is_floating_point() and (is_parameter or update_buffers):
                value = share * value + (1 - share) * expected[name]
            expected[name] = value
    for name, value in averaged.module.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, expected[name])
    assert not torch.equal(averaged.module[0].weight, model[0].weight)


def test_the_official_decay():
    """The share of the model in iteration ``i`` of the official NanoDet-Plus, with its ``decay`` 0.9998."""
    averaged = ExpMomentumEMA(net())
    for iteration in (0, 1, 500, 2000, 100_000):
        mean, source = torch.zeros(1, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        averaged.avg_func(mean, source, torch.tensor(iteration))
        assert mean.item() == pytest.approx(0.9998 * math.exp(-(1 + iteration) / 2000) + (1 - 0.9998), rel=1e-12)


@pytest.mark.parametrize("scope", ["densehead", "mmdet"])
def test_the_hook_builds_it_and_validates_with_the_mean(scope):
    model = net()
    runner = Runner(model)
    with DefaultScope.overwrite_default_scope(scope):
        hook = EMAHook(ema_type="ExpMomentumEMA", momentum=0.0002, update_buffers=True)
        hook.before_run(runner)
    assert type(hook.ema_model) is ExpMomentumEMA
    for runner.iter in range(3):
        disturb(model)
        hook.after_train_iter(runner, 0)
    trained = copy.deepcopy(model.state_dict())
    mean = copy.deepcopy(hook.ema_model.module.state_dict())
    hook.before_val_epoch(runner)
    assert all(torch.equal(value, mean[name]) for name, value in model.state_dict().items())
    hook.after_val_epoch(runner)
    assert all(torch.equal(value, trained[name]) for name, value in model.state_dict().items())


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"momentum": 0.0}, "momentum must lie between 0 and 1, but got 0.0"),
        ({"momentum": 1.5}, "momentum must lie between 0 and 1, but got 1.5"),
        ({"gamma": 0}, "gamma must be a positive number of updates, but got 0"),
    ],
)
def test_numbers_out_of_range_are_refused(keys, message):
    with pytest.raises(ValueError, match=message):
        ExpMomentumEMA(net(), **keys)
