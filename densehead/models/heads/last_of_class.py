"""Where objects of one class overlap: which of the pairs of one prior and one class is that of the last object."""

from __future__ import annotations

import torch
from torch import Tensor

from densehead.models.heads.inside_pairs import PAIRS, Rectangles
from densehead.models.heads.pairs import runs_of
from densehead.structures import Targets


@torch.no_grad()
def last_of_class(rectangles: Rectangles, targets: Targets) -> Tensor:
    """Return (N,) whether a pair is, of those of one prior and one class, the one of the last ground truth.

    Either way memory goes with the pairs: neither all pairs of truths nor all that they share is listed where that is
    more.
    """
    if rectangles.truth.device.type != "cpu" or rectangles.level_pairs is None:
        return _by_order(rectangles, targets)
    limit = max(len(rectangles), PAIRS)
    valid, later = _later(targets)
    num_grids = len(rectangles.truth) // max(rectangles.num_truths, 1)
    if int(later.sum()) * num_grids > limit:
        return _by_order(rectangles, targets)
    one, number = runs_of(later, int(later.sum()))
    one, other = valid[one], valid[one + 1 + number]
    corners = rectangles.first, rectangles.first + rectangles.size
    first, stop = (side.view(-1, max(rectangles.num_truths, 1), 2) for side in corners)
    low, high = first[:, one].maximum(first[:, other]), stop[:, one].minimum(stop[:, other])
    grid, which = (low < high).all(-1).nonzero(as_tuple=True)
    low, size = low[grid, which], (high - low)[grid, which]
    if int(size.prod(-1).sum()) > limit:
        return _by_order(rectangles, targets)
    mine = grid * rectangles.num_truths + one[which]
    are_last = torch.ones(len(rectangles), dtype=torch.bool)
    return are_last.index_fill_(0, rectangles.numbers(mine, low - rectangles.first[mine], size), False)


def _by_order(rectangles: Rectangles, targets: Targets) -> Tensor:
    """The same by sorting, which no GPU is waited for."""
    pairs = rectangles.pairs if rectangles.truth.device.type != "cpu" else rectangles.listed()
    score = pairs.place * (targets.labels.amax() + 1 if len(pairs) else 1) + pairs.of_truth(targets.labels)
    order = (score * rectangles.num_truths + pairs.truth).argsort()
    score = score[order]
    is_last = torch.cat([score[1:] != score[:-1], torch.ones_like(score[:1], dtype=torch.bool)])
    return torch.empty_like(is_last).scatter_(0, order, is_last)


def _later(targets: Targets) -> tuple[Tensor, Tensor]:
    """Return (V,) the valid truths, those of an image and class together and in their order, and (V,) how many of its
    image and class come after each.
    """
    label = targets.labels.flatten()
    image = torch.arange(targets.num_images, device=label.device).repeat_interleave(targets.max_count)
    (valid,) = targets.is_valid.flatten().nonzero(as_tuple=True)
    kind, order = (image * (label.amax() + 1 if len(label) else 1) + label)[valid].sort(stable=True)
    later = torch.searchsorted(kind, kind, right=True) - torch.arange(1, len(kind) + 1, device=kind.device)
    return valid[order], later
