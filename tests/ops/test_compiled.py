"""Dense losses that are compiled for a CPU, on request: against those that are not."""

from __future__ import annotations

import warnings

import pytest
import torch

from densehead.models.losses import FocalLoss, QualityFocalLoss, VarifocalLoss
from densehead.ops import compiled, compiled_losses
from densehead.structures import LevelTensor
from tests.models.heads import heads

pytestmark = pytest.mark.slow  # the compiler takes its time


@pytest.fixture(autouse=True)
def _anew(monkeypatch: pytest.MonkeyPatch):
    torch._dynamo.reset()
    monkeypatch.setattr(compiled, "_programs", {})
    yield
    torch._dynamo.reset()


def can_compile() -> bool:
    try:
        from torch._inductor.cpp_builder import get_cpp_compiler
    except ImportError:  # PyTorch before 2.5
        from torch._inductor.codecache import cpp_compiler as get_cpp_compiler

    try:
        return bool(get_cpp_compiler())
    except Exception:
        return False


needs_compiler = pytest.mark.skipif(not can_compile(), reason="no C++ compiler")


def levels(dtype, channels_last: bool):
    generator = torch.Generator().manual_seed(0)
    maps = [torch.randn(2, 10, *size, generator=generator) * 6 for size in ((9, 7), (4, 3), (1, 1))]
    form = torch.channels_last if channels_last else torch.contiguous_format
    return [level.to(dtype).to(memory_format=form).requires_grad_() for level in maps]


CASES = [
    *((FocalLoss(), weighted, last, torch.float32) for weighted in (False, True) for last in (False, True)),
    (FocalLoss(), True, False, torch.float64),
    (FocalLoss(), False, True, torch.bfloat16),
    (FocalLoss(gamma=1.5), True, True, torch.float32),
    (QualityFocalLoss(), False, False, torch.float32),
    (VarifocalLoss(), True, False, torch.float32),
]


@needs_compiler
@pytest.mark.parametrize(("loss", "weighted", "channels_last", "dtype"), CASES)
def test_values_and_gradients(loss, weighted, channels_last, dtype):
    maps = levels(dtype, channels_last)
    places = torch.tensor([0, 1, 1]), torch.tensor([3, 70, 75]), torch.tensor([1, 9, 0])
    weight = (torch.rand(2, 76, generator=torch.Generator().manual_seed(1)) > 0.3).float() if weighted else None
    options = {"weight": weight, "avg_factor": 3.0, "pos_quality": torch.tensor([0.2, 0.9, 0.5])}
    found = []
    for is_wanted in (True, False):
        with compiled_losses(is_wanted):
            value = loss.forward_maps(LevelTensor(maps), *places, **options)
        found.append((value, torch.autograd.grad(value, maps)))
    assert bool(compiled._programs)
    torch.testing.assert_close(*found, rtol=1e-5, atol=1e-6)


@needs_compiler
@pytest.mark.parametrize("name", ["FCOSHead", "GFLHead", "AutoAssignHead", "PAAHead"])
def test_heads(name):
    found = []
    for is_wanted in (True, False):
        head = heads.build(name, train_cfg={"compile_losses": is_wanted}).train()
        samples = heads.samples([3, 5])
        losses = head.loss(heads.features(), samples)
        heads.total(losses).backward()
        grads = {key: one.grad for key, one in head.named_parameters()}
        found.append(({key: one.detach() for key, one in losses.items()}, grads))
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-6)


@needs_compiler
def test_equal_logits_keep_their_digits():
    logits, none = torch.full((1, 1, 80, 20_000), -4.595).requires_grad_(), torch.zeros(0, dtype=torch.long)
    with compiled_losses():
        value = FocalLoss().forward_maps(logits, none, none, none, avg_factor=1.0)
    one = FocalLoss().forward_maps(logits[..., :1, :1].double(), none, none, none, avg_factor=1.0)
    assert value.item() == pytest.approx(one.item() * logits.numel(), rel=2e-6)


def test_what_cannot_be_compiled_is_computed_without(monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no compiler\nat all")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: refuse)
    logits, none = torch.randn(1, 1, 4, 6, requires_grad=True), torch.zeros(0, dtype=torch.long)
    expected = FocalLoss().forward_maps(logits, none, none, none, avg_factor=1.0)
    with compiled_losses():
        with pytest.warns(UserWarning, match=r"train_cfg\.compile_losses: .* no compiler at all .*C\+\+ compiler"):
            found = FocalLoss().forward_maps(logits, none, none, none, avg_factor=1.0)
        with warnings.catch_warnings():  # said once
            warnings.simplefilter("error")
            again = FocalLoss().forward_maps(logits, none, none, none, avg_factor=1.0)
    assert found == expected == again
