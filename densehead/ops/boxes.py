"""Pure functions of boxes: overlaps, distances to the sides, deltas. Boxes are xyxy in pixels throughout.

Half-precision inputs are computed in, and returned as, float32: the area of a 300-pixel box overflows float16.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from densehead.ops.constants import constant

MaxShape = Sequence[int] | Sequence[Sequence[int]] | Tensor
MODES = ("iou", "iof", "giou")


def full_precision(tensor: Tensor) -> Tensor:
    """Return ``tensor`` in float32 if it is of a half or an integer type, itself otherwise."""
    if tensor.dtype in (torch.float32, torch.float64):
        return tensor
    return tensor.float()


def box_area(boxes: Tensor) -> Tensor:
    """Return the areas, shape (...), of boxes (..., 4); no clamping, as the overlaps below use them."""
    boxes = full_precision(boxes)
    return (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])


def aligned_iou(boxes1: Tensor, boxes2: Tensor, mode: str = "iou", eps: float = 1e-6) -> Tensor:
    """Return the overlap of each box with its partner.

    Args:
        boxes1: (..., 4).
        boxes2: (..., 4), or what broadcasts to it.
        mode: ``'iou'`` intersection over union, ``'iof'`` intersection over the area of ``boxes1``, ``'giou'``
            generalized IoU (Rezatofighi et al., CVPR 2019, algorithm 1), in [-1, 1].
        eps: the least denominator, so that boxes without extent have the overlap 0.

    Returns:
        (...) overlaps.

    Raises:
        ValueError: an unknown mode, or boxes whose last axis is not 4.
    """
    _check(boxes1, boxes2, mode)
    return _overlap(full_precision(boxes1), full_precision(boxes2), mode, eps)


def pairwise_iou(boxes1: Tensor, boxes2: Tensor, mode: str = "iou", eps: float = 1e-6) -> Tensor:
    """Return the overlaps of all boxes of one set with all of another; see :func:`aligned_iou`.

    Args:
        boxes1: (..., N, 4).
        boxes2: (..., M, 4); the leading axes may broadcast, e.g. (B, G, 4) with (P, 4).
        mode: as of :func:`aligned_iou`.
        eps: as of :func:`aligned_iou`.

    Returns:
        (..., N, M) overlaps.
    """
    _check(boxes1, boxes2, mode)
    boxes1, boxes2 = full_precision(boxes1), full_precision(boxes2)
    return _overlap(boxes1[..., :, None, :], boxes2[..., None, :, :], mode, eps)


def _check(boxes1: Tensor, boxes2: Tensor, mode: str) -> None:
    if mode not in MODES:
        raise ValueError(f"mode must be one of {MODES}, but got {mode!r}")
    if boxes1.shape[-1] != 4 or boxes2.shape[-1] != 4:
        raise ValueError(f"boxes must have shape (..., 4), but got {tuple(boxes1.shape)} and {tuple(boxes2.shape)}")


def _overlap(boxes1: Tensor, boxes2: Tensor, mode: str, eps: float) -> Tensor:
    # One axis at a time: (N, M) temporaries instead of strided (N, M, 2) ones.
    left1, top1, right1, bottom1 = boxes1.unbind(-1)
    left2, top2, right2, bottom2 = boxes2.unbind(-1)
    width = (torch.minimum(right1, right2) - torch.maximum(left1, left2)).clamp(min=0)
    height = (torch.minimum(bottom1, bottom2) - torch.maximum(top1, top2)).clamp(min=0)
    intersection = width * height
    area1 = (right1 - left1) * (bottom1 - top1)
    if mode == "iof":
        return intersection / area1.clamp(min=eps)
    area2 = (right2 - left2) * (bottom2 - top2)
    union = (area1 + area2 - intersection).clamp(min=eps)
    iou = intersection / union
    if mode == "iou":
        return iou
    hull_width = (torch.maximum(right1, right2) - torch.minimum(left1, left2)).clamp(min=0)
    hull_height = (torch.maximum(bottom1, bottom2) - torch.minimum(top1, top2)).clamp(min=0)
    hull = (hull_width * hull_height).clamp(min=eps)
    return iou - (hull - union) / hull


def distance2bbox(points: Tensor, distance: Tensor, max_shape: MaxShape | None = None) -> Tensor:
    """Return the boxes whose sides lie at the distances from the points (FCOS, Tian et al., ICCV 2019, eq. 1).

    Args:
        points: (..., 2) x, y in pixels.
        distance: (..., 4) to the left, top, right and bottom side, pixels.
        max_shape: (height, width) to clip to, or one for each image of (B, N, 4) boxes; a third entry is ignored.

    Returns:
        (..., 4) boxes.
    """
    x, y = full_precision(points).unbind(-1)
    left, top, right, bottom = full_precision(distance).unbind(-1)
    boxes = torch.stack((x - left, y - top, x + right, y + bottom), -1)
    return boxes if max_shape is None else clip_boxes(boxes, max_shape)


def bbox2distance(points: Tensor, bbox: Tensor, max_dis: float | None = None, eps: float = 0.1) -> Tensor:
    """Return the distances from points to the sides of boxes; the inverse of :func:`distance2bbox`.

    Args:
        points: (..., 2) x, y in pixels.
        bbox: (..., 4) boxes.
        max_dis: distances are clamped to ``[0, max_dis - eps]`` if given.
        eps: keeps a distance below ``max_dis``, for those who bin distances.

    Returns:
        (..., 4) distances to the left, top, right and bottom side; negative where the point lies outside.
    """
    points, bbox = full_precision(points), full_precision(bbox)
    distance = torch.cat((points - bbox[..., :2], bbox[..., 2:] - points), -1)
    return distance if max_dis is None else distance.clamp(min=0, max=max_dis - eps)


def clip_boxes(boxes: Tensor, max_shape: MaxShape) -> Tensor:
    """Return boxes (..., N, 4) inside ``max_shape``: (height, width), or (B, 2) for one size an image.

    Raises:
        ValueError: as many sizes as the boxes have no images.
    """
    if not isinstance(max_shape, Tensor) and not isinstance(max_shape[0], Sequence):
        # plain numbers: no tensor has to travel to the boxes' device
        height, width = max_shape[:2]
        xs, ys = boxes[..., 0::2].clamp(0, width), boxes[..., 1::2].clamp(0, height)
        return torch.stack((xs, ys), -1).flatten(-2)
    size = torch.as_tensor(max_shape, dtype=boxes.dtype, device=boxes.device)[..., :2]
    if size.ndim > 1 and (boxes.ndim != size.ndim + 1 or boxes.shape[:-2] != size.shape[:-1]):
        raise ValueError(
            f"max_shape must be (height, width) or one of them for each image of boxes (B, N, 4), but got "
            f"max_shape of shape {tuple(size.shape)} for boxes of shape {tuple(boxes.shape)}"
        )
    limit = size.flip(-1).tile(2).unsqueeze(-2)  # (..., 1, 4): width, height, width, height
    return torch.minimum(boxes.clamp(min=0), limit)


def bbox2delta(
    proposals: Tensor,
    gt: Tensor,
    means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
    stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
) -> Tensor:
    """Return the deltas that lead from proposals to their truth (R-CNN, Girshick et al., CVPR 2014, eq. 6-9).

    Args:
        proposals: (..., 4) boxes to start from.
        gt: (..., 4) boxes to arrive at.
        means: of the four deltas, taken off.
        stds: of the four deltas, divided by.

    Returns:
        (..., 4) shift of the centre in units of the proposal's size, and logarithms of the ratio of the sizes.
    """
    if proposals.shape != gt.shape:
        raise ValueError(f"proposals and gt must be of one shape, but got {tuple(proposals.shape)}, {tuple(gt.shape)}")
    centre, size = _centre_size(full_precision(proposals))
    gt_centre, gt_size = _centre_size(full_precision(gt))
    deltas = torch.cat(((gt_centre - centre) / size, torch.log(gt_size / size)), -1)
    return (deltas - _four(means, deltas)) / _four(stds, deltas)


def delta2bbox(
    rois: Tensor,
    deltas: Tensor,
    means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
    stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
    max_shape: MaxShape | None = None,
    wh_ratio_clip: float = 16 / 1000,
    clip_border: bool = True,
    add_ctr_clamp: bool = False,
    ctr_clamp: float = 32,
) -> Tensor:
    """Return the boxes that deltas lead to; the inverse of :func:`bbox2delta`.

    Args:
        rois: (..., N, 4) boxes to start from.
        deltas: (..., N, K * 4), ``K`` boxes from each (one, or one a class).
        means: of the four deltas.
        stds: of the four deltas.
        max_shape: (height, width) to clip to, or one for each image of (B, N, .) boxes.
        wh_ratio_clip: a box grows at most by the inverse of it, and shrinks at most by it.
        clip_border: whether ``max_shape`` is used.
        add_ctr_clamp: clamp the shift of the centre to ``ctr_clamp`` pixels, and the growth only, not the shrinking
            (YOLOF, Chen et al., CVPR 2021).
        ctr_clamp: pixels.

    Returns:
        (..., N, K * 4) boxes.
    """
    shape = deltas.shape
    deltas = full_precision(deltas).unflatten(-1, (shape[-1] // 4, 4))
    deltas = deltas * _four(stds, deltas) + _four(means, deltas)
    centre, size = _centre_size(full_precision(rois).unsqueeze(-2))
    shift, growth = deltas[..., :2] * size, deltas[..., 2:]
    most = abs(math.log(wh_ratio_clip))
    if add_ctr_clamp:
        shift = shift.clamp(min=-ctr_clamp, max=ctr_clamp)
        growth = growth.clamp(max=most)
    else:
        growth = growth.clamp(min=-most, max=most)
    centre, half = centre + shift, size * growth.exp() * 0.5
    boxes = torch.cat((centre - half, centre + half), -1)
    if clip_border and max_shape is not None:
        boxes = clip_boxes(boxes.flatten(-3, -2), max_shape)
    return boxes.reshape(shape)


def _four(numbers: Sequence[float], like: Tensor) -> Tensor:
    return constant(tuple(numbers), like.dtype, like.device)


def _centre_size(boxes: Tensor) -> tuple[Tensor, Tensor]:
    low, high = boxes[..., :2], boxes[..., 2:]
    return (low + high) * 0.5, high - low
