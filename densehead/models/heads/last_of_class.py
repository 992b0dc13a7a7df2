"""Where objects of one class overlap: which of the pairs of one prior and one class is that of the last object."""

from __future__ import annotations

import torch
from torch import Tensor

from densehead.models.heads.inside_pairs import Rectangles
from densehead.models.heads.pairs import runs_of
from densehead.structures import Targets


@torch.no_grad()
def last_of_class(rectangles: Rectangles, targets: Targets) -> Tensor:
    """Return (N,) whether a pair is, of those of one prior and one class, the one of the last ground truth."""
    if rectangles.truth.device.type != "cpu" or rectangles.level_pairs is None:
        return _by_order(rectangles, targets)
    are_last = torch.ones(len(rectangles), dtype=torch.bool)
    one, other = _same(targets)
    corners = rectangles.first, rectangles.first + rectangles.size
    first, stop = (side.view(-1, max(rectangles.num_truths, 1), 2) for side in corners)
    low, high = first[:, one].maximum(first[:, other]), stop[:, one].minimum(stop[:, other])
    grid, which = (low < high).all(-1).nonzero(as_tuple=True)
    low, size = low[grid, which], (high - low)[grid, which]
    mine = grid * rectangles.num_truths + one[which]
    return are_last.index_fill_(0, rectangles.numbers(mine, low - rectangles.first[mine], size), False)


def _by_order(rectangles: Rectangles, targets: Targets) -> Tensor:
    """The same by sorting, which no GPU is waited for."""
    pairs = rectangles.pairs
    score = pairs.place * (targets.labels.amax() + 1 if len(pairs) else 1) + pairs.of_truth(targets.labels)
    order = (score * rectangles.num_truths + pairs.truth).argsort()
    score = score[order]
    is_last = torch.cat([score[1:] != score[:-1], torch.ones_like(score[:1], dtype=torch.bool)])
    return torch.empty_like(is_last).scatter_(0, order, is_last)


def _same(targets: Targets) -> tuple[Tensor, Tensor]:
    """(M,) each, ``image * G + ground truth``: every pair of a truth and a later one of its image and class."""
    label = targets.labels.flatten()
    image = torch.arange(targets.num_images, device=label.device).repeat_interleave(targets.max_count)
    (valid,) = targets.is_valid.flatten().nonzero(as_tuple=True)
    kind, order = (image * (label.amax() + 1 if len(label) else 1) + label)[valid].sort(stable=True)
    later = torch.searchsorted(kind, kind, right=True) - torch.arange(1, len(kind) + 1, device=kind.device)
    one, number = runs_of(later, int(later.sum()))
    truth = valid[order]
    return truth[one], truth[one + 1 + number]
