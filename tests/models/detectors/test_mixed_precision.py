"""Detectors under autocast, alone and with the other switches of the network."""

from __future__ import annotations

import pytest
import torch

from tests.models.detectors.test_single_stage import build, config, data


def losses(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return model(**model.data_preprocessor(data(), True), mode="loss")


@pytest.mark.parametrize("kind", ["FCOS", "ATSS"])
@pytest.mark.parametrize("switches", [(), ("channels_last",), ("compile_towers",), ("channels_last", "compile_towers")])
def test_bfloat16_is_near_single_precision(kind, switches):
    plain = build(kind)
    head = {**config(kind)["bbox_head"], "compile_towers": dict(backend="aot_eager")}
    keys = {"bbox_head": head} if "compile_towers" in switches else {}
    model = build(kind, channels_last="channels_last" in switches, **keys)
    model.load_state_dict(plain.state_dict())
    with torch.autocast("cpu", torch.bfloat16):
        found = losses(model)
    for name, value in losses(plain).items():
        torch.testing.assert_close(found[name].float(), value, rtol=0.05, atol=0.02)
    sum(value for name, value in found.items() if "loss" in name).backward()
    for name, value in model.named_parameters():
        if value.grad is not None:
            assert value.grad.isfinite().all(), name
    torch.compiler.reset()
