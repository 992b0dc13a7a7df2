"""The fused kernels: on a GPU where there is one; else in Triton's interpreter, in a Python of its own.

By hand: ``TRITON_INTERPRET=1 pytest tests/ops/test_focal_kernels.py``.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys

import pytest
import torch
from torch.nn import functional as F

from densehead.ops import fused

ON_GPU = torch.cuda.is_available()
DEVICE = "cuda" if ON_GPU else "cpu"
IS_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"
HAS_TRITON = importlib.util.find_spec("triton") is not None
pytestmark = pytest.mark.skipif(not HAS_TRITON, reason="Triton is not installed: it comes with PyTorch for Linux")
computes = pytest.mark.skipif(
    not ON_GPU and not IS_INTERPRETED, reason="no CUDA device here: run in the interpreter by test_in_the_interpreter"
)
HALVES = [torch.float16, torch.bfloat16]


@pytest.fixture
def kernels():
    from densehead.ops import focal_kernels

    return focal_kernels


def made(*shape, dtype=torch.float32, seed=0, scale=4.0):
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(*shape, generator=generator) * scale).to(dtype).to(DEVICE)


def focal_reference(logits, weight, balance, gamma):
    """Value and gradient in float64, by PyTorch's own differentiation."""
    x = logits.detach().double().requires_grad_()
    log_score = F.logsigmoid(x)
    value = balance.double() * (gamma * log_score).exp() * F.softplus(x)
    value = (value if weight is None else value * weight.double()).sum()
    return value, torch.autograd.grad(value, x)[0]


def check_focal(kernels, logits, weight, gamma):
    balance = torch.tensor(0.75, device=DEVICE)
    grad = torch.full_like(logits, torch.nan, dtype=torch.float32)
    found = kernels.focal_background(logits, weight, grad, balance, gamma)
    value, gradient = focal_reference(logits, weight, balance, gamma)
    assert found.dtype == torch.float32
    assert found.shape == ()
    torch.testing.assert_close(found.double(), value, rtol=1e-6, atol=0)
    torch.testing.assert_close(grad.double(), gradient, rtol=5e-6, atol=1e-30)


LAYOUTS = {
    "as made": lambda maps: maps,
    "channels last": lambda maps: maps.permute(0, 3, 1, 2).contiguous().permute(0, 2, 3, 1),
    "a part of more": lambda maps: torch.cat([maps, maps], 2)[:, :, 1 : 1 + maps.shape[2]],
}


def weight_of(shape):
    """Weights a prior, ``place * A + base prior``, as a view of the maps' shape (B, A, C, S); some are 0."""
    batch, base, _, places = shape
    weight = made(batch, places * base, seed=1).relu()
    return weight.view(batch, places, base).permute(0, 2, 1)[:, :, None].expand(shape)


@computes
@pytest.mark.parametrize("gamma", [0, 1, 1.5, 2, 2.0, 4.0])
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_focal_of_every_exponent(kernels, dtype, gamma):
    logits = made(2, 3, 5, 41, dtype=dtype)
    check_focal(kernels, logits, None, gamma)
    check_focal(kernels, logits, weight_of(logits.shape), gamma)


@computes
@pytest.mark.parametrize("layout", list(LAYOUTS))
@pytest.mark.parametrize("shape", [(2, 1, 7, 33), (2, 3, 5, 11), (1, 1, 1, 1), (3, 2, 80, 40), (1, 1, 130, 3)])
def test_focal_of_every_layout(kernels, shape, layout):
    logits = LAYOUTS[layout](made(*shape))
    check_focal(kernels, logits, None, 2.0)
    check_focal(kernels, logits, weight_of(shape), 2.0)


@computes
@pytest.mark.parametrize("size", [1, 2, 2047, 2048, 2049, 6000])
def test_focal_writes_its_own_places_only(kernels, size):
    logits = made(size)
    room = torch.full((size + 4096,), -7.0, device=DEVICE)
    kernels.focal_background(logits, None, room[:size], torch.tensor(1.0, device=DEVICE), 2.0)
    assert (room[size:] == -7).all()
    check_focal(kernels, logits, None, 2.0)


@computes
@pytest.mark.parametrize("gamma", [0, 1, 1.5, 2])
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
def test_focal_of_sure_scores(kernels, dtype, gamma):
    """Scores of 1e-44 and 1 - 1e-44: nothing overflows or cancels."""
    logits = torch.tensor([100, 50, 20, 1e-3, 0, -1e-3, -5, -10, -20], dtype=dtype, device=DEVICE)
    check_focal(kernels, logits, None, gamma)
    tiny = torch.tensor([-60.0, -100.0], dtype=dtype, device=DEVICE)
    grad = torch.empty_like(tiny, dtype=torch.float32)
    value = kernels.focal_background(tiny, None, grad, torch.tensor(1.0, device=DEVICE), gamma)
    assert 0 <= value < 1e-25
    assert ((grad >= 0) & (grad < 1e-25)).all()


@computes
def test_focal_of_what_is_not_finite(kernels):
    logits, one = torch.tensor([torch.nan, 1.0], device=DEVICE), torch.tensor(1.0, device=DEVICE)
    assert kernels.focal_background(logits, None, None, one, 2.0).isnan()
    logits[0] = torch.inf
    assert kernels.focal_background(logits, None, None, one, 2.0) == torch.inf
    logits[0] = -torch.inf
    assert kernels.focal_background(logits, None, None, one, 2.0) > 0.3  # that of the other logit


@computes
def test_focal_without_gradient_and_again(kernels):
    logits, balance = made(5, 3, 4, 321), torch.tensor(0.3, device=DEVICE)
    grad = torch.empty_like(logits)
    values = [kernels.focal_background(logits, None, where, balance, 1.5) for where in (None, grad, None)]
    assert values[0] == values[1] == values[2]  # bit for bit: no atomics
    assert kernels.focal_background(logits[:0], None, None, balance, 1.5) == 0


@computes
def test_many_small_losses_keep_their_digits(kernels):
    """A fresh head: hundreds of thousands of equal losses of 1e-6, which a running sum would lose three digits of."""
    logits = torch.full((300_001,), -4.6, device=DEVICE)
    check_focal(kernels, logits, None, 2.0)


def joint_reference(logits, objectness):
    c, o = (one.detach().double().requires_grad_() for one in (logits, objectness))
    joint = c.sigmoid() * o.sigmoid()[:, None]
    rest = (-o).sigmoid()[:, None] + (-c).sigmoid() * o.sigmoid()[:, None]
    value = -(joint**2 * rest.log()).sum()
    return value, *torch.autograd.grad(value, (c, o))


JOINT_LAYOUTS = {
    "as made": lambda maps: maps,
    "channels last": lambda maps: maps.transpose(1, 2).contiguous().transpose(1, 2),
    "a part of more": lambda maps: torch.cat([maps, maps], 2)[:, :, 1 : 1 + maps.shape[2]],
}


@computes
@pytest.mark.parametrize("layout", list(JOINT_LAYOUTS))
@pytest.mark.parametrize("dtype", [torch.float32, *HALVES])
@pytest.mark.parametrize("shape", [(2, 5, 41), (1, 1, 1), (2, 80, 150), (3, 9, 128)])
def test_joint_background(kernels, shape, dtype, layout):
    logits = JOINT_LAYOUTS[layout](made(*shape, dtype=dtype))
    objectness = JOINT_LAYOUTS[layout](made(shape[0], 1, shape[2], dtype=dtype, seed=1))[:, 0]
    grad = torch.full_like(logits, torch.nan, dtype=torch.float32)
    found, grad_objectness = kernels.joint_background(logits, objectness, grad, 1e-38)
    value, gradient, of_objectness = joint_reference(logits, objectness)
    torch.testing.assert_close(found.double(), value, rtol=2e-6, atol=1e-7)
    torch.testing.assert_close(grad.double(), gradient, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(grad_objectness.double(), of_objectness, rtol=1e-5, atol=1e-6)


@computes
def test_joint_background_of_sure_scores(kernels):
    sure = torch.tensor([100.0, 30.0, 5.0, 0.0, -30.0, -100.0], device=DEVICE)
    logits, objectness = torch.cartesian_prod(sure, sure).unbind(1)  # one place for every pair of scores
    logits, objectness = logits[None, None], objectness[None]
    grad = torch.empty_like(logits)
    value, grad_objectness = kernels.joint_background(logits, objectness, grad, 1e-38)
    is_sure = (logits.clamp(max=objectness[:, None]) < 80)[0, 0]  # log(1 - q) of both at 100 is beyond float32
    expected = joint_reference(logits, objectness)
    assert value.isfinite()
    assert grad.isfinite().all()
    assert grad_objectness.isfinite().all()
    torch.testing.assert_close(grad[0, 0][is_sure].double(), expected[1][0, 0][is_sure], rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(grad_objectness[0][is_sure].double(), expected[2][0][is_sure], rtol=1e-4, atol=1e-6)


@computes
def test_joint_background_writes_its_own_places_only(kernels):
    logits, objectness = made(2, 5, 41), made(2, 41, seed=1)
    room = torch.full((2, 16, 300), -7.0, device=DEVICE)
    kernels.joint_background(logits, objectness, room[:, :5, :41], 1e-38)
    room[:, :5, :41] = -7
    assert (room == -7).all()
    value, of_objectness = kernels.joint_background(logits[:, :0], objectness, logits[:, :0], 1e-38)
    assert value == 0
    assert (of_objectness == 0).all()


@pytest.mark.parametrize("layout", list(LAYOUTS))
def test_axes_that_are_joined_walk_through_the_same_places(kernels, layout):
    maps = LAYOUTS[layout](torch.arange(2 * 3 * 5 * 7).view(2, 3, 5, 7))
    weight = torch.arange(2 * 21).view(2, 7, 3).permute(0, 2, 1)[:, :, None].expand(maps.shape)
    order = sorted(range(4), key=lambda axis: maps.stride(axis), reverse=True)
    maps, weight = maps.permute(order), weight.permute(order)
    sizes, (own, other) = kernels.joined_axes(maps.shape, maps.stride(), weight.stride())
    for tensor, strides in ((maps, own), (weight, other)):
        walked = tensor.as_strided(sizes, strides, tensor.storage_offset())
        assert walked.flatten().tolist() == tensor.flatten().tolist()
    dense = torch.empty(2, 3, 5, 7)
    assert kernels.joined_axes(dense.shape, dense.stride(), dense.stride())[0] == [1, 1, 1, 210]


@pytest.mark.skipif(ON_GPU or IS_INTERPRETED, reason="the tests run in this process")
def test_in_the_interpreter():
    pytest.importorskip("triton", minversion="3.3")
    variables = os.environ | {"TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.skipif(IS_INTERPRETED, reason="interpreted kernels cannot be compiled")
@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("half", ["fp32", "fp16", "bf16"])
def test_compiles_for_a_gpu_that_is_not_there(kernels, half, capability, tmp_path, monkeypatch):
    """The interpreter runs what the compiler refuses, e.g. a name that changes its shape in a loop."""
    triton = pytest.importorskip("triton", minversion="3.3")
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    floats = {"gamma": "fp32", "least": "fp32", "logits": f"*{half}", "objectness": f"*{half}"}
    floats |= dict.fromkeys(["weight", "grad", "balance", "partial", "grad_objectness"], "*fp32")
    tiles = {"ROWS": 16, "COLUMNS": 128}
    variants = [
        (kernels._focal, tiles | {"HAS_WEIGHT": weight, "HAS_GRAD": grad, "POWER": power})
        for weight, grad, power in [(True, True, -1), (False, True, 2), (True, False, 0), (True, True, 1)]
    ]
    variants += [(kernels._joint, {"PLACES": 32, "CLASSES": 32}), (kernels._joint, {"PLACES": 128, "CLASSES": 8})]
    for kernel, constants in variants:
        signature = {name: floats.get(name, "i32") for name in kernel.arg_names}
        source = ASTSource(kernel, signature | dict.fromkeys(constants, "constexpr"), constants)
        done = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=dict(kernels.OPTIONS))
        assert len(done.asm["cubin"]) > 1000


def test_only_gpus_have_kernels():
    assert fused.fused_kernels(torch.zeros(3)) is None


@pytest.mark.skipif(ON_GPU or IS_INTERPRETED, reason="Triton works here")
def test_where_triton_does_not_work_a_warning_says_so_once(monkeypatch):
    monkeypatch.setattr(fused, "_OLDEST_TRITON", (0,))
    fused._kernels.cache_clear()
    with pytest.warns(UserWarning, match="Triton does not work on cpu .*plain PyTorch"):
        assert fused._kernels(torch.device("cpu")) is None
    assert fused._kernels(torch.device("cpu")) is None  # without a second warning
    fused._kernels.cache_clear()


def test_an_old_triton_is_left_alone(monkeypatch):
    pytest.importorskip("triton")
    monkeypatch.setattr(fused, "_OLDEST_TRITON", (99,))
    fused._kernels.cache_clear()
    assert fused._kernels(torch.device("cpu")) is None  # without a warning
    fused._kernels.cache_clear()
