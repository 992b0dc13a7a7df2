"""A training with averaged weights that stops and is resumed goes on with the same average."""

from __future__ import annotations

import torch

from densehead.apis import prepare_training, train
from tests.engine.tiny import losses, tiny_config

EMA = {"type": "EMAHook", "ema_type": "ExpMomentumEMA", "momentum": 0.1, "gamma": 2, "update_buffers": True}
OPTIONS = {"default_hooks__summary": None, "custom_hooks": [EMA]}


def mean_of(runner):
    (hook,) = (hook for hook in runner.hooks if type(hook).__name__ == "EMAHook")
    return hook.ema_model.module.state_dict()


def test_resumed_average_equals_the_whole_one(tmp_path, data_root):
    whole = train(prepare_training(tiny_config(tmp_path / "whole", data_root, **OPTIONS)))
    half = tiny_config(tmp_path / "half", data_root, **OPTIONS, train_cfg__max_epochs=1)
    train(prepare_training(half))
    checkpoint = torch.load(tmp_path / "half" / "work" / "epoch_1.pth", weights_only=False)
    resumed = train(prepare_training(tiny_config(tmp_path / "half", data_root, **OPTIONS), resume="auto"))
    assert losses(resumed) == losses(whole)
    expected = mean_of(whole)
    assert all(torch.equal(value, expected[name]) for name, value in mean_of(resumed).items())
    mean, trained = checkpoint["state_dict"], checkpoint["ema_state_dict"]
    assert any(not torch.equal(value, trained[f"module.{name}"]) for name, value in mean.items())
