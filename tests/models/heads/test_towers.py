"""Towers, as they are and compiled."""

from __future__ import annotations

import copy
import functools
import pickle

import pytest
import torch
from torch import nn

from densehead.models.heads import towers
from densehead.models.heads.towers import Tower, conv_tower, run_tower
from tests.models.heads.heads import CONFIGS, build, features

EAGER = dict(backend="aot_eager")  # traced as any compiled tower, run by PyTorch's own kernels
KINDS = sorted(kind for kind in CONFIGS if "-" not in kind)


def pass_through(head: nn.Module) -> tuple[list[torch.Tensor], dict[str, torch.Tensor]]:
    """The head's maps, and the gradients of their sum of squares."""
    maps = [level for one in head(features()) for level in one]
    sum(level.square().sum() for level in maps).backward()
    return maps, {name: value.grad for name, value in head.named_parameters() if value.grad is not None}


@pytest.fixture
def said(monkeypatch) -> list[str]:
    messages: list[str] = []
    monkeypatch.setattr(towers, "print_log", lambda message, **_: messages.append(message))
    return messages


@pytest.fixture(autouse=True)
def _nothing_compiled():
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_towers_compute_what_they_did(kind, said, monkeypatch):
    made = []

    @functools.wraps(torch.compile)
    def compile(*args, wrapped=torch.compile, **keys):
        made.append(keys)
        return wrapped(*args, **keys)

    monkeypatch.setattr(torch, "compile", compile)
    plain, compiled = build(kind), build(kind, compile_towers=EAGER)
    assert list(plain.state_dict()) == list(compiled.state_dict())
    compiled.load_state_dict(plain.state_dict())
    results = [pass_through(head) for head in (plain, compiled)]
    for one, other in zip(results[0][0], results[1][0], strict=True):
        torch.testing.assert_close(one, other)
    assert results[0][1].keys() == results[1][1].keys()
    for name, gradient in results[0][1].items():
        torch.testing.assert_close(results[1][1][name], gradient, rtol=1e-4, atol=1e-4)
    assert made == [EAGER] * (len(compiled.strides) if kind == "NanoDetPlusHead" else 2)
    assert said == []
    assert list(plain.state_dict()) == list(compiled.state_dict())


def test_while_predicting_nothing_is_compiled(monkeypatch):
    monkeypatch.setattr(torch, "compile", lambda *_, **__: pytest.fail("compiled"))
    tower = conv_tower(2, 4, 4, compile=True).eval()
    run_tower(tower, torch.rand(1, 4, 5, 6))
    run_tower(conv_tower(2, 4, 4), torch.rand(1, 4, 5, 6))
    no_layers, feature = conv_tower(0, 4, 4, compile=True), torch.rand(1, 4, 5, 6)
    assert run_tower(no_layers, feature) is feature


def test_a_copy_has_its_own_program():
    """That of an exponential moving average would otherwise go through the weights of the model."""
    tower = conv_tower(1, 3, 3, compile=EAGER)
    feature = torch.rand(1, 3, 5, 6)
    before = tower(feature)
    for other in (copy.deepcopy(tower), pickle.loads(pickle.dumps(tower))):
        nn.init.zeros_(other[0].conv.weight)
        nn.init.constant_(other[0].conv.bias, 2.0)
        assert (other(feature) == 2).all()
        assert other.compile_options == EAGER
    torch.testing.assert_close(tower(feature), before)


def test_without_a_compiler_the_towers_run_as_they_are(said):
    def backend(graph, inputs):
        raise RuntimeError("No working C++ compiler found\nlong story")

    tower, plain = conv_tower(2, 3, 3, compile=dict(backend=backend)), conv_tower(2, 3, 3)
    plain.load_state_dict(tower.state_dict())
    feature = torch.rand(1, 3, 5, 6)
    for _ in range(2):
        torch.testing.assert_close(tower(feature), plain(feature))
    assert len(said) == 1
    assert said[0].startswith("bbox_head.compile_towers: the towers could not be compiled and run as they are: ")
    assert "No working C++ compiler found" in said[0]
    assert "long story" not in said[0]


def test_errors_of_the_layers_stay():
    with pytest.raises(RuntimeError, match="channels"):
        conv_tower(1, 3, 3, compile=EAGER)(torch.rand(1, 4, 5, 6))


def test_other_lists_of_layers_are_run_too():
    layers = nn.ModuleList([nn.Conv2d(3, 4, 1), nn.Conv2d(4, 2, 1)])
    assert run_tower(layers, torch.rand(1, 3, 5, 6)).shape == (1, 2, 5, 6)
    assert isinstance(Tower(layers), nn.ModuleList)


@pytest.mark.parametrize("given", ["yes", 1, dict(speed=2), None])
def test_options_that_do_not_exist(given):
    message = r"bbox_head\.compile_towers must be True, False or a dict of options of .* \(.*mode.*\), but got"
    with pytest.raises(ValueError, match=message):
        build("FCOSHead", compile_towers=given)
