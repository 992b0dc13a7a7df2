"""The dense losses of score maps as programs that ``torch.compile`` makes for a CPU, on request.

PyTorch's operators take a pass over memory each; here a core reads a score once and writes its gradient once. It needs
a C++ compiler and some seconds at the first call.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from densehead.compat import is_compiling

_is_wanted = False
_programs: dict[Callable, Callable | None] = {}


@contextmanager
def compiled_losses(is_wanted: bool = True) -> Iterator[None]:
    """Compute dense losses on a CPU by compiled programs inside the ``with`` block, or not."""
    global _is_wanted
    before, _is_wanted = _is_wanted, is_wanted
    try:
        yield
    finally:
        _is_wanted = before


def _run(function: Callable, *args):
    """Return what a function returns, computed by its compiled form; None where that is not wanted or not possible."""
    if not _is_wanted or is_compiling():
        return None
    if function not in _programs:
        _programs[function] = torch.compile(function, dynamic=True, fullgraph=True)
    program = _programs[function]
    if program is None:
        return None
    try:
        return program(*_detached(args))
    except Exception as error:  # of the compiler, of its compiler, of files that cannot be written: each raises its own
        _programs[function] = None
        reason = " ".join(str(error).split("\n")[:2]).strip()
        warnings.warn(
            f"train_cfg.compile_losses: the losses could not be compiled and are computed as without it: {reason} "
            "(on a CPU torch.compile needs a C++ compiler such as g++)",
            stacklevel=2,
        )
        return None


def _detached(args):
    return [
        arg.detach() if isinstance(arg, Tensor) else _detached(arg) if isinstance(arg, list) else arg for arg in args
    ]


def compiled_focal_background(pieces: Sequence[list[Tensor | None]], balance: Tensor, gamma: float) -> Tensor | None:
    """Return ``balance * weight * sigmoid^gamma * softplus``, summed over all pieces by one program.

    Args:
        pieces: lists of three each: logits of any shape, a view in the order of memory; weight of their shape or what
            broadcasts to it, None for 1; grad of their shape, to which the gradient is written.
        balance: a scalar.
        gamma: exponent.

    Returns:
        None where :func:`compiled_losses` does not ask for it, the logits are not on a CPU, or nothing can be compiled.
    """
    if balance.device.type != "cpu" or any(grad is None or not grad.numel() for *_, grad in pieces):
        return None
    pieces = [[logits, 1.0 if weight is None else weight, grad] for logits, weight, grad in pieces]
    return _run(_focal, pieces, balance, gamma)


def compiled_joint_background(pieces: Sequence[list[Tensor]], axes: list[int], factor: Tensor) -> Tensor | None:
    """Return ``-q^2 * log(1 - q)`` of ``q = sigmoid(logits) * is_object``, summed over all pieces, times ``factor``.

    Args:
        pieces: lists of five each: logits of any shape, a view in the order of memory; grad of their shape, to which
            the gradient is written; is_object and is_nothing, the scores of being an object and of not, with an axis of
            length 1; and grad_objectness of their shape, to which the gradient of the objectness without its factor
            is_nothing is written.
        axes: of each piece that of the classes.
        factor: a scalar.

    Returns:
        None where it was not done; see :func:`compiled_focal_background`.
    """
    if factor.device.type != "cpu" or not all(logits.numel() for logits, *_ in pieces):
        return None
    return _run(_joint, list(pieces), axes, factor)


def _focal(pieces: list[list], balance: Tensor, gamma: float) -> Tensor:
    return torch.stack([_focal_of_piece(*piece, balance, gamma) for piece in pieces]).sum()


def _focal_of_piece(logits: Tensor, weight: Tensor | float, grad: Tensor, balance: Tensor, gamma: float) -> Tensor:
    score, softplus = _score_and_softplus(logits.to(balance.dtype))
    scale = (score * score if gamma == 2 else score**gamma) * (balance * weight)
    loss = scale * softplus
    grad.copy_(scale * score + gamma * (loss - score * loss))
    return loss.sum(dtype=torch.float64).to(loss.dtype)  # in one go float32 would lose four digits


def _joint(pieces: list[list[Tensor]], axes: list[int], factor: Tensor) -> Tensor:
    parts = zip(pieces, axes, strict=True)
    return torch.stack([_joint_of_piece(*piece, axis, factor) for piece, axis in parts]).sum()


def _joint_of_piece(
    logits: Tensor,
    grad: Tensor,
    is_object: Tensor,
    is_nothing: Tensor,
    grad_objectness: Tensor,
    axis: int,
    factor: Tensor,
) -> Tensor:
    score, other, _ = _scores(logits.to(grad.dtype))
    joint = score * is_object
    rest = is_nothing + other * is_object  # 1 - joint, without cancellation
    # log(1 - q) as 2 * atanh(-q / (2 - q)): near 0 the logarithm of the rest loses digits, and it takes longer
    near = torch.log1p(-joint) if logits.dtype == torch.float64 else -_two_atanh(joint / (1 + rest))
    log_rest = torch.where(joint < 0.5, near, rest.log())
    square = joint * joint * factor
    slope = square * (joint / rest - 2 * log_rest)  # the derivative by joint, times joint
    grad.copy_(slope * other)
    grad_objectness.copy_(slope.sum(axis, keepdim=True))
    return -(square * log_rest).sum(dtype=torch.float64).to(square.dtype)


def _scores(logits: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return ``sigmoid(x)``, ``sigmoid(-x)`` and ``exp(-|x|)``; none cancels."""
    small = (-logits.abs()).exp()
    larger = 1 / (1 + small)
    smaller = small * larger
    is_positive = logits >= 0
    return torch.where(is_positive, larger, smaller), torch.where(is_positive, smaller, larger), small


def _score_and_softplus(logits: Tensor) -> tuple[Tensor, Tensor]:
    score, _, small = _scores(logits)
    log1p = torch.log1p if logits.dtype == torch.float64 else _log1p
    return score, log1p(small) + logits.clamp(min=0)


def _log1p(value: Tensor) -> Tensor:
    """Return ``log(1 + t)`` of t in [0, 1] in float32."""
    return _two_atanh(value / (2 + value))


def _two_atanh(ratio: Tensor) -> Tensor:
    """Return ``2 * atanh(s)`` of s in [0, 1 / 3]: its series, of which float32 needs eight terms."""
    square = ratio * ratio
    series = square * (1 / 15) + 1 / 13
    for divisor in (11, 9, 7, 5, 3, 1):
        series = series * square + 1 / divisor
    return 2 * ratio * series
