"""The highest IoU of each predicted box with the ground truth of its image, by patches of neighbours."""

from __future__ import annotations

import torch
from torch import Tensor

from densehead.structures import Priors, Targets

OVERLAPS = 1 << 16  # that are computed at a time: a dozen buffers of them fit a core's second-level cache
EPS = 1e-6  # of an area, which is divided by
FAR = 1e9  # beyond all images, pixels


@torch.no_grad()
def best_overlaps(boxes: Tensor, is_asked: Tensor, priors: Priors, targets: Targets) -> Tensor:
    """Return (B, P): the highest IoU of a predicted box with any ground truth of its image, 0 where not asked for.

    Exact, but not by a table of all pairs: neighbouring priors are taken a patch at a time, and a patch is compared
    with the truths that meet the hull of its boxes.

    Args:
        boxes: (B, P, 4) xyxy, pixels.
        is_asked: (B, P) bool.
        priors: whose boxes they are.
        targets: truth of the batch.
    """
    (batch, count), patches = is_asked.shape, priors.patches
    # what is not asked for, and what a patch at the border lacks, is put where it meets nothing and leaves hulls alone
    sides = []
    for side, far in zip(boxes.unbind(-1), (FAR, FAR, -FAR, -FAR), strict=True):
        padded = side.new_full((batch, count + 1), far)
        padded[:, :-1] = side.masked_fill(~is_asked, far)
        sides.append(padded.index_select(1, patches.view(-1)).view(batch, *patches.shape))
    image, patch, truth = _meets(sides, targets).nonzero(as_tuple=True)
    patch = image * len(patches) + patch
    truth = image * targets.max_count + truth
    best = _best([side.flatten(0, 1) for side in sides], patch, truth, targets)
    found = boxes.new_empty(batch, count + 1).scatter_(1, patches.view(1, -1).expand(batch, -1), best.view(batch, -1))
    return found[:, :-1]


def _meets(sides: list[Tensor], targets: Targets) -> Tensor:
    """(B, patches, G) bool: whether the hull of boxes, of which the sides are (B, patches, n), meets a ground truth."""
    x1, y1, x2, y2 = sides
    truth_x1, truth_y1, truth_x2, truth_y2 = (side[:, None] for side in targets.boxes.unbind(-1))
    meets = (x1.amin(-1)[..., None] < truth_x2) & (y1.amin(-1)[..., None] < truth_y2)
    meets &= (x2.amax(-1)[..., None] > truth_x1) & (y2.amax(-1)[..., None] > truth_y1)
    return meets & targets.is_valid[:, None]


def _best(sides: list[Tensor], patch: Tensor, truth: Tensor, targets: Targets) -> Tensor:
    """(B * patches, n): the highest IoUs of pairs of a patch (M,) and a ground truth (M,), 0 where there is none."""
    best = torch.zeros_like(sides[0])
    truths = [side.flatten() for side in targets.boxes.unbind(-1)]
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (sides, truths)]
    step = max(OVERLAPS // best.shape[1], 1)
    for some, their_truth in zip(patch.split(step), truth.split(step), strict=True):
        overlap = _overlap(
            [values.index_select(0, some) for values in (*sides, areas[0])],
            [values.index_select(0, their_truth)[:, None] for values in (*truths, areas[1])],
        )
        best.scatter_reduce_(0, some[:, None].expand_as(overlap), overlap, "amax")
    return best


def _overlap(one: list[Tensor], other: list[Tensor]) -> Tensor:
    """IoU of boxes of which there are x1, y1, x2, y2 and the area each; see :func:`densehead.ops.aligned_iou`."""
    (low_x, low_y, high_x, high_y, area), (other_x1, other_y1, other_x2, other_y2, other_area) = one, other
    width = torch.minimum(high_x, other_x2).sub_(torch.maximum(low_x, other_x1)).clamp_(min=0)
    height = torch.minimum(high_y, other_y2).sub_(torch.maximum(low_y, other_y1)).clamp_(min=0)
    intersection = width.mul_(height)
    union = (area + other_area).sub_(intersection).clamp_(min=EPS)
    return intersection.div_(union)
