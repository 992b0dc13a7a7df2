"""Which operators would make the host wait for a GPU: found without one, by tensors that only say that they lie there.

``PretendGpu`` runs code as it would run on a GPU: its tensors name a GPU as their device, so that code takes the way
it takes there, and hold their numbers on the host. Operators that wait are noted with the place in densehead they stand
at; operators that mix tensors of both devices raise, as they do on a GPU.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter, defaultdict
from pathlib import Path

import pytest
import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_flatten, tree_map_only

try:
    from torch.utils._python_dispatch import return_and_correct_aliasing
except ImportError:
    return_and_correct_aliasing = None

needs_pretended_gpu = pytest.mark.skipif(
    return_and_correct_aliasing is None, reason="PyTorch 2.1 cannot make tensors that pretend to lie on a GPU"
)

PACKAGE = Path(__file__).resolve().parents[1] / "densehead"
GPU = torch.device("cuda", 63)  # one that no machine has: caches by device are not mixed up with a real one's
# What CUDA reads a size or a value back for; repeat_interleave unless it is told the length of its result.
WAITING = {
    "_local_scalar_dense",
    "_unique2",
    "bincount",
    "equal",
    "histc",
    "is_nonzero",
    "masked_select",
    "multinomial",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
}
_running: list[PretendGpu] = []


class OnGpu(torch.Tensor):
    """A tensor that says that it lies on :data:`GPU`; its numbers are in ``host``."""

    @staticmethod
    def __new__(cls, host: torch.Tensor):
        options = {"strides": host.stride(), "storage_offset": host.storage_offset(), "dtype": host.dtype}
        return torch.Tensor._make_wrapper_subclass(cls, host.shape, **options, device="cpu", requires_grad=False)

    def __init__(self, host: torch.Tensor) -> None:
        self.host = host

    device = property(lambda self: GPU)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    def __repr__(self) -> str:
        return f"OnGpu({self.host})"

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        _note_waiting(name, args, kwargs)
        _check_devices(name, args, kwargs)
        on_host = tree_map_only(OnGpu, lambda one: one.host, (args, kwargs))
        result = func(*on_host[0], **on_host[1])
        result = tree_map_only(torch.Tensor, lambda one: one if isinstance(one, OnGpu) else OnGpu(one), result)
        return return_and_correct_aliasing(func, args, kwargs, result)


def _note_waiting(name: str, args: tuple, kwargs: dict) -> None:
    waits = name in WAITING or (name == "repeat_interleave" and kwargs.get("output_size") is None)
    if name in ("index", "index_put", "index_put_", "_unsafe_index", "_index_put_impl_"):
        masks = [one for one in args[1] if one is not None and one.dtype in (torch.bool, torch.uint8)]
        is_fill = (
            name != "index" and args[2].numel() == 1 and len(masks) == sum(one is not None for one in args[1]) == 1
        )
        waits = bool(masks) and not is_fill
        if any(one is not None and not isinstance(one, OnGpu) for one in args[1]):
            _note("index from the host")
    if name == "copy_" and isinstance(args[0], OnGpu) != isinstance(args[1], OnGpu):
        waits = not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
    if waits:
        _note(name)


def _check_devices(name: str, args: tuple, kwargs: dict) -> None:
    """CUDA takes tensors of the host as indices and as numbers only."""
    tensors = [one for one in tree_flatten((args, kwargs))[0] if isinstance(one, torch.Tensor)]
    strangers = [one for one in tensors if not isinstance(one, OnGpu) and one.ndim]
    if strangers and name not in ("copy_", "index", "index_put", "index_put_", "_index_put_impl_"):
        raise RuntimeError(f"{name} got tensors on {GPU} and of shape {tuple(strangers[0].shape)} on cpu")


def _note(what: str) -> None:
    if not _running:
        return
    where = _place()
    if _running[-1].is_strict:
        raise RuntimeError(f"{what} at {where} makes the host wait for a GPU")
    _running[-1].found[where][what] += 1


def _place() -> str:
    """The innermost function of densehead on the stack, ``file:function``."""
    frame = sys._getframe(1)
    while frame is not None:
        path, name = Path(frame.f_code.co_filename), frame.f_code.co_name
        if PACKAGE in path.parents and not name.startswith("<"):  # nor a lambda or a comprehension
            return f"{path.relative_to(PACKAGE).as_posix()}:{name}"
        frame = frame.f_back
    return "backward"


def _is_gpu(device) -> bool:
    return device is not None and torch.device(device).type == "cuda"


class PretendGpu(TorchFunctionMode):
    """Inside the ``with`` block, tensors made on ``cuda`` are pretended.

    Attributes:
        found: for each ``file:function`` what waits there, and how often it did.
        is_strict: raise where something waits, in place of noting it.
    """

    def __init__(self, *, is_strict: bool = False) -> None:
        super().__init__()
        self.found: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self.is_strict = is_strict

    def __enter__(self):
        _running.append(self)
        return super().__enter__()

    def __exit__(self, *error):
        _running.pop()
        return super().__exit__(*error)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        name = getattr(func, "__name__", "")
        if func is torch._C._nn.pad_sequence:  # it makes its result in C++, for which the numbers' device counts
            sequences, *options = args
            return _like(sequences[0], func([_host(one) for one in sequences], *options, **kwargs))
        if func is torch.Tensor.backward:
            with self:  # it is off in here, but has to see what the backward pass makes
                return _backward(args[0])
        special = _SPECIAL.get(name)
        if special is not None and args and func is getattr(torch.Tensor, name, None):
            return special(func, *args, **kwargs)
        if not _is_gpu(kwargs.get("device")):
            return func(*args, **kwargs)
        kwargs["device"] = "cpu"
        if args and isinstance(args[0], OnGpu):  # new_zeros and the like
            return func(*args, **{key: value for key, value in kwargs.items() if key != "device"})
        if name in ("tensor", "as_tensor", "asarray"):
            _note(f"copy ({name})")
        return to_gpu(func(*args, **kwargs))


def to_gpu(tensor: torch.Tensor) -> OnGpu:
    """Return a tensor that says that it lies on a GPU; without a note, and a leaf of the graph if it was one."""
    if isinstance(tensor, OnGpu):
        return tensor
    return OnGpu(tensor.detach()).requires_grad_(tensor.requires_grad)


def _host(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.host if isinstance(tensor, OnGpu) else tensor


def _like(other: torch.Tensor, tensor: torch.Tensor) -> torch.Tensor:
    return to_gpu(tensor) if isinstance(other, OnGpu) else tensor


def _to(func, tensor, *args, **kwargs):
    target = [one for one in (*args, kwargs.get("device")) if isinstance(one, (str, torch.device, torch.Tensor))]
    target = (target[0].device if isinstance(target[0], torch.Tensor) else target[0]) if target else tensor.device
    if _is_gpu(target) == isinstance(tensor, OnGpu):
        kwargs.pop("device", None)
        return func(tensor, *("cpu" if isinstance(one, (str, torch.device)) else one for one in args), **kwargs)
    if tensor.requires_grad:
        raise NotImplementedError("a tensor with gradient between a pretended GPU and the host")
    if not (kwargs.pop("non_blocking", False) or any(one is True for one in args)):
        _note("copy (to)")
    kwargs.pop("device", None)
    args = [one for one in args if isinstance(one, torch.dtype)]
    moved = to_gpu(tensor) if _is_gpu(target) else _host(tensor)
    return func(moved, *args, **kwargs) if args or kwargs else moved


def _read(what: str, func, tensor, *args, **kwargs):
    if not isinstance(tensor, OnGpu):
        return func(tensor, *args, **kwargs)
    _note(what)
    return func(tensor.host, *args, **kwargs)


def _backward(tensor: torch.Tensor) -> None:
    """Do what ``tensor.backward()`` does, which would call the mode anew."""
    engine = torch.autograd.Variable._execution_engine
    options = {"allow_unreachable": True, "accumulate_grad": True}
    engine.run_backward((tensor,), (torch.ones_like(tensor),), False, False, (), **options)


def _new_tensor(func, tensor, data, **kwargs):
    if not isinstance(tensor, OnGpu):
        return func(tensor, data, **kwargs)
    _note("copy (new_tensor)")
    return to_gpu(tensor.host.new_tensor(data, **kwargs))


_SPECIAL = {
    "to": _to,
    "cuda": lambda func, tensor, **kwargs: _to(torch.Tensor.to, tensor, GPU, **kwargs),
    "cpu": functools.partial(_read, "copy (cpu)"),
    "tolist": functools.partial(_read, "tolist"),
    "numpy": functools.partial(_read, "copy (numpy)"),
    "new_tensor": _new_tensor,
}
