"""Dense losses of score maps as Triton kernels: value and gradient in one pass. Import it through :mod:`.fused` only.

Every program takes a tile, writes its gradient and leaves one partial sum, which a reduction adds up afterwards: no
atomics, so the same maps give the same loss, bit for bit. All is computed in float32.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

TILE = 2048  # elements that a program holds at a time
# a multiplication and an addition in one rounding; said aloud, for Triton is about to change what it does unasked
OPTIONS = {"enable_fp_fusion": True}


@triton.jit
def _scores(x):
    """Return ``sigmoid(x)`` and ``sigmoid(-x)``; neither cancels."""
    small = tl.exp(-tl.abs(x))
    larger = 1 / (1 + small)
    smaller = small * larger
    return tl.where(x >= 0, larger, smaller), tl.where(x >= 0, smaller, larger)


@triton.jit
def _log1p(t):
    """Return ``log(1 + t)`` of t in [0, 1].

    It is ``2 * atanh(t / (2 + t))``, whose series has positive terms, of which float32 needs eight here. The logarithm
    of ``1 + t`` would lose the digits of small ``t``, which is what the scores of backgrounds are.
    """
    s = t / (2 + t)
    square = s * s
    series = square * (1 / 15) + 1 / 13
    series = series * square + 1 / 11
    series = series * square + 1 / 9
    series = series * square + 1 / 7
    series = series * square + 1 / 5
    series = series * square + 1 / 3
    series = series * square + 1
    return 2 * s * series


@triton.jit
def _focal(
    logits,
    weight,
    grad,
    balance,
    partial,
    gamma,
    num_rows,
    num_columns,
    size_1,
    size_2,
    logit_0,
    logit_1,
    logit_2,
    logit_3,
    grad_0,
    grad_1,
    grad_2,
    grad_3,
    weight_0,
    weight_1,
    weight_2,
    weight_3,
    HAS_WEIGHT: tl.constexpr,
    HAS_GRAD: tl.constexpr,
    POWER: tl.constexpr,  # gamma where it is 0, 1 or 2, or else -1
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Take a tile of a map of four axes, of which the first three are counted as rows."""
    across = tl.cdiv(num_columns, COLUMNS)
    program = tl.program_id(0)
    row = (program // across) * ROWS + tl.arange(0, ROWS)
    column = ((program % across) * COLUMNS + tl.arange(0, COLUMNS)).to(tl.int64)
    inside = (row < num_rows)[:, None] & (column < num_columns)[None, :]
    axis_2 = (row % size_2).to(tl.int64)
    axis_1 = (row // size_2 % size_1).to(tl.int64)
    axis_0 = (row // size_2 // size_1).to(tl.int64)

    place = (axis_0 * logit_0 + axis_1 * logit_1 + axis_2 * logit_2)[:, None] + (column * logit_3)[None, :]
    x = tl.load(logits + place, mask=inside, other=0).to(tl.float32)
    score, rest = _scores(x)
    log = _log1p(tl.exp(-tl.abs(x)))
    softplus = tl.maximum(x, 0) + log
    scale = tl.load(balance).to(tl.float32)
    if POWER == 2:
        scale = score * score * scale
    elif POWER == 1:
        scale = score * scale
    elif POWER == -1:
        scale = tl.exp(-gamma * (tl.maximum(-x, 0) + log)) * scale  # -log(score)
    if HAS_WEIGHT:
        place = (axis_0 * weight_0 + axis_1 * weight_1 + axis_2 * weight_2)[:, None] + (column * weight_3)[None, :]
        scale = scale * tl.load(weight + place, mask=inside, other=0).to(tl.float32)
    loss = softplus * scale
    if HAS_GRAD:
        place = (axis_0 * grad_0 + axis_1 * grad_1 + axis_2 * grad_2)[:, None] + (column * grad_3)[None, :]
        tl.store(grad + place, score * scale + gamma * rest * loss, mask=inside)
    tl.store(partial + program, tl.sum(tl.sum(tl.where(inside, loss, 0.0), 1), 0))


def focal_background(
    logits: Tensor, weight: Tensor | None, grad: Tensor | None, balance: Tensor, gamma: float
) -> Tensor:
    """Return ``balance * weight * sigmoid^gamma * softplus`` summed over logits, and write its gradient.

    Args:
        logits: of at most four axes, in any strides; float32 or a half type.
        weight: of the same shape, in any strides, 0 among them; 1 everywhere if None.
        grad: of the same shape; where the gradient goes, if it is not None.
        balance: a scalar on the same device.
        gamma: focusing exponent.

    Returns:
        A scalar in float32.
    """
    if not logits.numel():
        return logits.new_zeros((), dtype=torch.float32)
    others = [logits if one is None else one for one in (grad, weight)]
    (*rows, columns), strides = joined_axes(logits.shape, *(one.stride() for one in (logits, *others)))
    num_rows = rows[0] * rows[1] * rows[2]
    width = min(triton.next_power_of_2(columns), TILE)
    height = min(triton.next_power_of_2(num_rows), TILE // width)
    programs = triton.cdiv(num_rows, height) * triton.cdiv(columns, width)
    partial = torch.empty(programs, dtype=torch.float32, device=logits.device)
    with torch.cuda.device_of(logits):
        _focal[(programs,)](
            logits,
            others[1],
            others[0],
            balance,
            partial,
            float(gamma),
            num_rows,
            columns,
            *rows[1:],
            *(stride for some in strides for stride in some),
            HAS_WEIGHT=weight is not None,
            HAS_GRAD=grad is not None,
            POWER=int(gamma) if gamma in (0, 1, 2) else -1,
            ROWS=height,
            COLUMNS=width,
            **OPTIONS,
        )
    return partial.sum()


def joined_axes(shape: Sequence[int], *strides: Sequence[int]) -> tuple[list[int], list[list[int]]]:
    """Join axes that all of several tensors of one shape can be walked through as one, and fill up to four.

    Args:
        shape: of all of them, four axes at most.
        strides: of each tensor.

    Returns:
        The sizes of four axes, and for each tensor their four strides.
    """
    sizes, steps = [], []  # last axis first
    for size, step in zip(reversed(shape), zip(*map(reversed, strides), strict=True), strict=True):
        if size == 1:
            continue
        if sizes and all(outer == sizes[-1] * inner for outer, inner in zip(step, steps[-1], strict=True)):
            sizes[-1] *= size
        else:
            sizes.append(size)
            steps.append(step)
    missing = 4 - len(sizes)
    sizes, steps = sizes + [1] * missing, steps + [(0,) * len(strides)] * missing
    return sizes[::-1], [list(some) for some in zip(*reversed(steps), strict=True)]


@triton.jit
def _joint(
    logits,
    objectness,
    grad,
    grad_objectness,
    partial,
    least,
    num_places,
    num_classes,
    logit_image,
    logit_class,
    logit_place,
    grad_image,
    grad_class,
    grad_place,
    object_image,
    object_place,
    PLACES: tl.constexpr,
    CLASSES: tl.constexpr,
):
    """Take all classes of some places of an image, a tile after the other."""
    blocks = tl.cdiv(num_places, PLACES)
    program = tl.program_id(0)
    image = (program // blocks).to(tl.int64)
    place = (program % blocks).to(tl.int64) * PLACES + tl.arange(0, PLACES)
    is_place = place < num_places
    o = tl.load(objectness + image * object_image + place * object_place, mask=is_place, other=0).to(tl.float32)
    is_object, is_nothing = _scores(o)
    is_nothing = tl.maximum(is_nothing, least)
    loss = tl.zeros((PLACES,), tl.float32)
    slope_sum = tl.zeros((PLACES,), tl.float32)
    logits += image * logit_image
    grad += image * grad_image
    for first in range(0, num_classes, CLASSES):
        number = (first + tl.arange(0, CLASSES)).to(tl.int64)
        inside = is_place[:, None] & (number < num_classes)[None, :]
        c = tl.load(logits + place[:, None] * logit_place + number[None, :] * logit_class, mask=inside, other=0)
        is_class, is_other = _scores(c.to(tl.float32))
        joint = is_class * is_object[:, None]
        rest = is_nothing[:, None] + is_other * is_object[:, None]  # 1 - joint
        log_rest = tl.log(rest)
        square = joint * joint
        slope = (joint / rest - 2 * log_rest) * square  # the derivative by joint, times joint
        tl.store(grad + place[:, None] * grad_place + number[None, :] * grad_class, is_other * slope, mask=inside)
        slope_sum += tl.sum(tl.where(inside, slope, 0.0), 1)
        loss += tl.sum(tl.where(inside, -log_rest * square, 0.0), 1)
    at = image * num_places + place
    tl.store(grad_objectness + at, slope_sum * is_nothing, mask=is_place)
    tl.store(partial + program, tl.sum(tl.where(is_place, loss, 0.0), 0))


def joint_background(logits: Tensor, objectness: Tensor, grad: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """Return ``-q^2 * log(1 - q)`` of joint scores ``q = sigmoid(logits) * sigmoid(objectness)``, summed.

    Args:
        logits: (B, C, S) in any strides; float32 or a half type.
        objectness: (B, S) in any strides.
        grad: (B, C, S) float32, where the gradient of the logits goes.
        least: lower bound of ``sigmoid(-objectness)``.

    Returns:
        A scalar, and (B, S) the gradient of the objectness; both float32.
    """
    batch, classes, places = logits.shape
    grad_objectness = torch.zeros(batch, places, dtype=torch.float32, device=logits.device)
    if not logits.numel():
        return grad_objectness.sum(), grad_objectness
    # a warp reads neighbours of the axis that lies dense in memory; the other axis only fills the tile
    height, width = (32, 32) if logits.stride(1) < logits.stride(2) else (128, 8)
    width = min(triton.next_power_of_2(classes), width)
    programs = batch * triton.cdiv(places, height)
    partial = torch.empty(programs, dtype=torch.float32, device=logits.device)
    with torch.cuda.device_of(logits):
        _joint[(programs,)](
            logits,
            objectness,
            grad,
            grad_objectness,
            partial,
            least,
            places,
            classes,
            *logits.stride(),
            *grad.stride(),
            *objectness.stride(),
            PLACES=height,
            CLASSES=width,
            **OPTIONS,
        )
    return partial.sum(), grad_objectness
