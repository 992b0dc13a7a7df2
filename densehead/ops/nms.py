"""Non-maximum suppression, hard and soft, with mmcv's ``nms_cfg`` dicts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torchvision.ops
from torch import Tensor

from densehead.ops.backend import is_forced, mmcv_ops, mmcv_serves
from densehead.ops.boxes import aligned_iou, full_precision

_TINY = torch.finfo(torch.float32).tiny
Suppression = Callable[[Tensor, Tensor, Tensor, int], tuple[Tensor, Tensor]]
METHODS = ("naive", "linear", "gaussian")
_KEYS = {
    "nms": {"iou_threshold", "offset", "score_threshold", "max_num"},
    "soft_nms": {"iou_threshold", "sigma", "min_score", "method", "offset", "max_num"},
}
# One sweep over boxes that lie apart by class costs the square of their number; from this many on, a sweep a class
# is cheaper (measured on CPU; a GPU sweeps thousands at once, and pays for every launch). Other devices may have no
# float64, which the one sweep takes.
_SWEEP_LIMIT = {"cpu": 1000, "cuda": 25_000}
_PAIRS_LIMIT = 1 << 18  # pairs of boxes of one class, up to which looking at all of them together is faster still


def nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float,
    offset: int = 0,
    score_threshold: float = 0,
    max_num: int = -1,
) -> tuple[Tensor, Tensor]:
    """Keep the best box of every group that overlaps.

    Args:
        boxes: (n, 4) xyxy.
        scores: (n,).
        iou_threshold: of two boxes whose IoU is above it, the one of the lower score goes.
        offset: 0, or 1 where a box from 3 to 5 is meant to be 3 pixels wide.
        score_threshold: boxes that do not score above it go first, if it is positive.
        max_num: how many to keep at most, if it is positive.

    Returns:
        ``dets`` (k, 5), xyxy and score, best first; ``keep`` (k,), where they stand in ``boxes``.
    """
    cfg = {"type": "nms", "iou_threshold": iou_threshold, "offset": offset}
    cfg |= {"score_threshold": score_threshold, "max_num": max_num}
    return batched_nms(boxes, scores, torch.zeros_like(scores, dtype=torch.long), cfg, class_agnostic=True)


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: str = "linear",
    offset: int = 0,
    max_num: int = -1,
) -> tuple[Tensor, Tensor]:
    """Lower the scores of boxes that overlap better ones (Soft-NMS, Bodla et al., ICCV 2017, eq. 1-3).

    Args:
        boxes: (n, 4) xyxy.
        scores: (n,).
        iou_threshold: ``'linear'`` and ``'naive'`` act on boxes that overlap by this IoU or more.
        sigma: width of ``'gaussian'``.
        min_score: boxes whose score falls below go; the best of all always stays.
        method: ``'linear'`` (score times 1 - IoU), ``'gaussian'`` (times exp(-IoU^2 / sigma)) or ``'naive'`` (times 0).
        offset: 0 or 1, as of :func:`nms`.
        max_num: how many to keep at most, if it is positive.

    Returns:
        ``dets`` (k, 5), xyxy and the lowered score, best first; ``keep`` (k,), where they stand in ``boxes``. Of equal
        scores the first comes first (mmcv's compiled operator, which swaps in place, may take another one).
    """
    cfg = {"type": "soft_nms", "iou_threshold": iou_threshold, "sigma": sigma, "min_score": min_score, "method": method}
    cfg |= {"offset": offset, "max_num": max_num}
    return batched_nms(boxes, scores, torch.zeros_like(scores, dtype=torch.long), cfg, class_agnostic=True)


def batched_nms(
    boxes: Tensor,
    scores: Tensor,
    idxs: Tensor,
    nms_cfg: dict[str, Any] | None,
    class_agnostic: bool = False,
) -> tuple[Tensor, Tensor]:
    """Suppress within each class (or any other group), by mmcv's config dict.

    Args:
        boxes: (n, 4) xyxy.
        scores: (n,).
        idxs: (n,) class of each box; boxes of different classes do not suppress each other.
        nms_cfg: ``type`` (``'nms'``, the default, or ``'soft_nms'``) and the arguments of :func:`nms` or
            :func:`soft_nms`; ``class_agnostic``, in place of the argument; ``split_thr``, accepted and without use here
            (it bounds memory where mmcv has to sweep all classes at once). None sorts and suppresses nothing.
        class_agnostic: whether all boxes count as of one class.

    Returns:
        ``dets`` (k, 5) xyxy and score, best first; ``keep`` (k,), where they stand in ``boxes``.

    Raises:
        ValueError: an unknown type or key of ``nms_cfg``, or shapes that do not fit.
    """
    if nms_cfg is None:
        ordered, keep = scores.sort(descending=True)
        return _dets(boxes[keep], ordered), keep
    kind, options, class_agnostic, split_thr = _read(nms_cfg, class_agnostic)
    _check(boxes, scores, options.get("offset", 0))
    if idxs.shape != scores.shape:
        raise ValueError(f"idxs must have the shape of scores, {tuple(scores.shape)}, but got {tuple(idxs.shape)}")
    if not boxes.shape[0]:
        return _dets(boxes, scores), torch.zeros(0, dtype=torch.long, device=boxes.device)
    groups = torch.zeros_like(idxs, dtype=torch.long) if class_agnostic else idxs.long()
    max_num = options.pop("max_num", -1)
    return _suppression(boxes, kind, options, split_thr, class_agnostic)(boxes, scores, groups, max_num)


def _suppression(boxes: Tensor, kind: str, options: dict, split_thr: int, class_agnostic: bool) -> Suppression:
    """Return what suppresses boxes, scores and groups down to a number: mmcv's operator or torchvision's."""
    # on a CPU, hard suppression here is faster than mmcv's operator
    if not mmcv_serves(boxes) or (kind == "nms" and boxes.device.type == "cpu" and not is_forced()):
        return partial(_soft if kind == "soft_nms" else _grouped, **options)
    cfg = dict(options, type=kind, split_thr=split_thr)

    def suppress(boxes: Tensor, scores: Tensor, groups: Tensor, max_num: int) -> tuple[Tensor, Tensor]:
        dets, keep = mmcv_ops().batched_nms(boxes.float(), scores.float(), groups, cfg, class_agnostic=class_agnostic)
        keep = keep[: max_num if max_num > 0 else None]
        return _dets(boxes[keep], scores[keep] if kind == "nms" else dets[: len(keep), 4]), keep

    return suppress


def _read(nms_cfg: dict[str, Any], class_agnostic: bool) -> tuple[str, dict[str, Any], bool, int]:
    """Take a copy of the config apart; the caller's dict stays as it is."""
    options = dict(nms_cfg)
    kind = options.pop("type", "nms")
    if kind not in _KEYS:
        raise ValueError(f"nms type must be one of {sorted(_KEYS)}, but test_cfg's nms has type={kind!r}")
    class_agnostic = options.pop("class_agnostic", class_agnostic)
    split_thr = options.pop("split_thr", 10_000)
    if "iou_thr" in options:  # its name in configs of mmdetection 2.x
        options["iou_threshold"] = options.pop("iou_thr")
    unknown = set(options) - _KEYS[kind]
    if unknown:
        raise ValueError(
            f"nms of type {kind!r} has no key {sorted(unknown)}: it takes "
            f"{sorted(_KEYS[kind] | {'class_agnostic', 'split_thr'})}"
        )
    if options.get("method", "linear") not in METHODS:
        raise ValueError(f"method of soft_nms must be one of {METHODS}, but got {options['method']!r}")
    if kind == "nms" and "iou_threshold" not in options:
        raise ValueError("nms needs iou_threshold, e.g. nms=dict(type='nms', iou_threshold=0.6)")
    return kind, options, class_agnostic, split_thr


def _check(boxes: Tensor, scores: Tensor, offset: int) -> None:
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        raise ValueError(
            f"boxes must have shape (n, 4) and scores (n,), but got {tuple(boxes.shape)} and {tuple(scores.shape)}"
        )
    if offset not in (0, 1):
        raise ValueError(f"offset must be 0 or 1, but got {offset!r}")


def _dets(boxes: Tensor, scores: Tensor) -> Tensor:
    return torch.cat((boxes, scores[:, None]), -1)


def _widened(boxes: Tensor, offset: int) -> Tensor:
    return boxes + boxes.new_tensor((0, 0, offset, offset)) if offset else boxes


def _in(dtype: torch.dtype, iou_threshold: float) -> float:
    """Round the threshold as the overlaps are rounded: an IoU of 3/5 is not above 0.6, as it is not for mmcv."""
    return torch.tensor(iou_threshold, dtype=dtype).item()


def _grouped(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    max_num: int,
    iou_threshold: float,
    offset: int = 0,
    score_threshold: float = 0,
) -> tuple[Tensor, Tensor]:
    """Suppress within each group by torchvision's operator."""
    candidates = torch.nonzero(scores > score_threshold).squeeze(1) if score_threshold > 0 else None
    every = boxes, scores, groups
    some_boxes, some_scores, groups = every if candidates is None else (one[candidates] for one in every)
    some_boxes, some_scores = _widened(full_precision(some_boxes), offset), full_precision(some_scores)
    keep = _sweep(some_boxes, some_scores, groups, iou_threshold)
    if max_num > 0:
        keep = keep[:max_num]
    if candidates is not None:
        keep = candidates[keep]
    return _dets(boxes[keep], scores[keep]), keep


def _sweep(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """Return (k,) the boxes that stay, best first, in whichever way is the fastest."""
    if boxes.device.type == "cpu":
        order = scores.argsort(descending=True, stable=True)
        order = order[groups[order].argsort(stable=True)]  # groups side by side, the best first
        counts = torch.unique_consecutive(groups[order], return_counts=True)[1]
        if (counts * (counts - 1)).sum() <= 2 * _PAIRS_LIMIT:
            return _sweep_pairs(boxes, scores, order, counts, iou_threshold)
    once = len(scores) <= _SWEEP_LIMIT.get(boxes.device.type, 0)
    return (_sweep_once if once else _sweep_each)(boxes, scores, groups, iou_threshold)


def _sweep_pairs(boxes: Tensor, scores: Tensor, order: Tensor, counts: Tensor, iou_threshold: float) -> Tensor:
    """Compare every box with the worse ones of its group, all pairs at once.

    ``order`` (n,) has the boxes group by group, best first, ``counts`` how many a group has. Of the pairs that overlap
    a worse box goes if the better one stays: what stays is found by repeating that until nothing changes.
    """
    place = torch.arange(len(order))
    worse = counts.cumsum(0).repeat_interleave(counts) - place - 1  # how many follow in the group
    first = place.repeat_interleave(worse)
    second = torch.arange(len(first)) - (worse.cumsum(0) - worse)[first] + first + 1
    boxes = boxes[order]
    overlap = aligned_iou(boxes[first], boxes[second], eps=_TINY)
    overlaps = (overlap > _in(overlap.dtype, iou_threshold)).nonzero().squeeze(1)
    first, second = first[overlaps], second[overlaps]
    stays = torch.ones(len(order), dtype=torch.bool)
    while True:
        before = stays
        stays = torch.ones_like(before).index_fill_(0, second[before[first]], False)
        if torch.equal(stays, before):
            break
    keep = order[stays].sort().values  # so that of equal scores the first comes first, whatever its group
    return keep[scores[keep].argsort(descending=True, stable=True)]


def _sweep_once(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    """Move the groups apart and sweep once, in float64: in float32 the 80th class would lose 7 bits of its boxes."""
    boxes = torch.nan_to_num(boxes.double(), nan=0.0, posinf=1e9, neginf=-1e9)
    if boxes.numel():
        boxes = boxes + (groups * (boxes.amax() - boxes.amin() + 1))[:, None]
    return torchvision.ops.nms(boxes, scores.double(), iou_threshold)


def _sweep_each(boxes: Tensor, scores: Tensor, groups: Tensor, iou_threshold: float) -> Tensor:
    threshold = _in(boxes.dtype, iou_threshold)
    order = torch.argsort(groups, stable=True)
    counts = torch.unique_consecutive(groups[order], return_counts=True)[1]
    parts = order.split(counts.tolist())
    keep = torch.cat([part[torchvision.ops.nms(boxes[part], scores[part], threshold)] for part in parts])
    keep = keep.sort()[0]  # so that of equal scores the first comes first, whatever its class
    return keep[scores[keep].argsort(descending=True, stable=True)]


def _soft(
    boxes: Tensor,
    scores: Tensor,
    groups: Tensor,
    max_num: int,
    iou_threshold: float = 0.3,
    sigma: float = 0.5,
    min_score: float = 1e-3,
    method: str = "linear",
    offset: int = 0,
) -> tuple[Tensor, Tensor]:
    """Soft-suppress within each group: all groups at once, on the CPU, where mmcv's operator does it too."""
    final = _decayed(
        _widened(full_precision(boxes.detach()).cpu(), offset),
        full_precision(scores.detach()).cpu(),
        groups.cpu(),
        lambda overlap: _decay(overlap, method, iou_threshold, sigma),
        min_score,
    )
    stays = final >= min_score
    stays[final.argmax()] = True
    keep = torch.nonzero(stays).squeeze(1)
    keep = keep[final[keep].argsort(descending=True, stable=True)]
    if max_num > 0:
        keep = keep[:max_num]
    final, keep = final[keep].to(scores.device), keep.to(boxes.device)
    return _dets(boxes[keep], final), keep


def _decay(overlap: Tensor, method: str, iou_threshold: float, sigma: float) -> Tensor:
    """Return the factor that an overlap with a better box costs (Bodla et al., eq. 1 to 3)."""
    if method == "gaussian":
        return torch.exp(-(overlap**2) / sigma)
    kept = 1 - overlap if method == "linear" else torch.zeros_like(overlap)
    return torch.where(overlap >= iou_threshold, kept, 1.0)


def _decayed(boxes: Tensor, scores: Tensor, groups: Tensor, decay, min_score: float) -> Tensor:
    """Return (n,) the score with which each box is chosen in its group; -inf where it fell below ``min_score``."""
    order = torch.argsort(groups, stable=True)
    _, row, counts = torch.unique_consecutive(groups[order], return_inverse=True, return_counts=True)
    column = torch.arange(len(order)) - (counts.cumsum(0) - counts)[row]
    shape = len(counts), int(counts.max())
    table = boxes.new_zeros(*shape, 4)
    table[row, column] = boxes[order]
    waiting = scores.new_full(shape, -torch.inf)
    waiting[row, column] = scores[order]
    final = torch.full_like(waiting, -torch.inf)
    for _ in range(shape[1]):
        best, index = waiting.max(1, keepdim=True)
        if best.max() == -torch.inf:
            break
        final.scatter_(1, index, torch.maximum(final.gather(1, index), best))
        waiting.scatter_(1, index, -torch.inf)
        chosen = table.gather(1, index[..., None].expand(-1, -1, 4))
        lowered = waiting * decay(aligned_iou(chosen, table, eps=_TINY))
        waiting = torch.where(lowered >= min_score, lowered, -torch.inf)
    by_box = torch.empty_like(scores)
    by_box[order] = final[row, column]
    return by_box
