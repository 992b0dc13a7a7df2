"""The pairs of a ground truth and a prior inside it, of a whole batch, as one list: no table of all pairs anywhere.

The list is as long as the truths are large: a box of ``w x h`` pixels holds about ``w * h / stride^2`` points of a
level. How long it is decides the size of everything that follows, so on CUDA making it waits for the device once.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from densehead.models.assigners.candidates import GridTensors
from densehead.ops import aligned_iou
from densehead.structures import LevelTensor, Priors, Share, Targets

BLOCK = 16  # neighbouring priors that are looked at together
OVERLAPS = 1 << 16  # that are computed at a time: a dozen buffers of them fit a core's second-level cache
FAR = 1e9  # beyond all images, pixels


@dataclass(frozen=True)
class Pairs:
    """``N`` pairs of a ground truth and a prior of the same image.

    Attributes:
        truth: (N,) ``image * G + ground truth``.
        place: (N,) ``image * P + prior``.
        num_truths: ``B * G``, padded ones among them.
        level_sizes: how many pairs are of each level, one level after the other; None where they are mixed.
    """

    truth: Tensor
    place: Tensor
    num_truths: int
    level_sizes: tuple[int, ...] | None = None

    def __len__(self) -> int:
        return self.truth.shape[0]

    def joined(self, truth: Tensor, place: Tensor) -> Pairs:
        """Return these pairs and more of them, of any level."""
        return Pairs(torch.cat([self.truth, truth]), torch.cat([self.place, place]), self.num_truths)

    def shares(self, tensor: LevelTensor, num_priors: int) -> list[Share]:
        """Return where the pairs' priors stand in the pieces of a quantity with one prior at a place."""
        image = self.place.div(max(num_priors, 1), rounding_mode="floor")
        prior = self.place - image * num_priors
        if self.level_sizes is None or len(tensor.pieces) != len(self.level_sizes):
            return tensor.shares(image, prior)
        base, shares, first, start = torch.zeros_like(prior), [], 0, 0
        for size, piece in zip(self.level_sizes, tensor.pieces, strict=True):
            mine = slice(first, first + size)
            shares.append(Share(mine, image[mine], base[mine], prior[mine] - start))
            first, start = first + size, start + piece.shape[-1]
        return shares

    def of_truth(self, values: Tensor) -> Tensor:
        """Return (N,): of values (B * G,) or (B, G) those of each pair's truth."""
        return values.reshape(-1).index_select(0, self.truth)

    def of_place(self, values: Tensor) -> Tensor:
        """Return (N,): of values (B * P,) or (B, P) those of each pair's prior."""
        return values.reshape(-1).index_select(0, self.place)

    def count(self) -> Tensor:
        """Return (B * G,) how many pairs each truth has."""
        return self.truth.new_zeros(self.num_truths).index_add(0, self.truth, torch.ones_like(self.truth))

    def sum(self, values: Tensor) -> Tensor:
        """Return (B * G,) the sum over each truth's pairs of values (N,)."""
        return values.new_zeros(self.num_truths).index_add(0, self.truth, values)

    def amax(self, values: Tensor) -> Tensor:
        """Return (B * G,) the largest of each truth's values (N,), -inf where it has no pair; without gradient."""
        return _extreme(values, self.truth, self.num_truths, -torch.inf, "amax")

    def amin(self, values: Tensor) -> Tensor:
        """Return (B * G,) the smallest of each truth's values (N,), inf where it has no pair; without gradient."""
        return _extreme(values, self.truth, self.num_truths, torch.inf, "amin")

    def logsumexp(self, values: Tensor) -> Tensor:
        """Return (B * G,) ``log(sum(exp(values)))`` over each truth's values (N,), 0 where it has no pair."""
        largest = self.amax(values)
        total = self.sum((values - self.of_truth(largest)).exp())
        has_pairs = total != 0  # the largest alone makes it 1; what is not a number stays that
        return total.where(has_pairs, 1).log() + largest.where(has_pairs, 0)


def _extreme(values: Tensor, index: Tensor, size: int, start: float, kind: str) -> Tensor:
    values = values.detach()
    return values.new_full((size,), start).scatter_reduce_(0, index, values, kind)


def inside_pairs(priors: Priors, targets: Targets) -> Pairs:
    """List for every ground truth the priors whose points lie strictly inside its box, level by level.

    On a grid they fill a rectangle of cells, whose corners are known in closed form.

    Args:
        priors: on grids.
        targets: truth of the batch.
    """
    grids = GridTensors.of(priors)
    low, high = (side.flip(-1)[:, :, None] for side in targets.boxes.split(2, -1))  # (B, G, 1, 2): y, x
    first = _first_beyond(low, grids.origin, grids.stride).maximum(grids.first[:, None])  # (B, G, T, 2)
    last = -_first_beyond(-high, -grids.origin, grids.stride)
    size = (last.minimum(grids.stop[:, None] - 1) - first + 1).clamp(min=0)
    rows, columns = (size * targets.is_valid[..., None, None]).unbind(-1)
    corner = grids.start + (first[..., 0] * grids.width + first[..., 1]) * grids.step
    image = torch.arange(targets.num_images, device=corner.device)[:, None, None]
    corner = corner + image * len(priors)

    number = (rows * columns).movedim(-1, 0).flatten()  # of cells, of every grid's rectangle around every truth
    end = number.cumsum(0)
    num_truths = columns.shape[0] * columns.shape[1]
    ends = end[num_truths - 1 :: num_truths].tolist() if num_truths else [0]
    owner = torch.arange(len(number), device=number.device).repeat_interleave(number, output_size=ends[-1])

    def of_owner(values: Tensor) -> Tensor:
        return values.expand_as(columns).movedim(-1, 0).flatten().index_select(0, owner)

    cell = torch.arange(ends[-1], device=number.device) - (end - number).index_select(0, owner)
    row = cell.div(of_owner(columns), rounding_mode="floor")
    # on its way through the rectangle a cell passes the rest of every row of the grid
    skipped = row * of_owner(grids.width - columns)
    place = of_owner(corner) + (cell + skipped) * of_owner(grids.step)
    level = [grid.level for grid in priors.grids]
    is_by_level = level == list(range(priors.num_levels))
    sizes = tuple(stop - start for start, stop in pairwise([0, *ends])) if is_by_level and num_truths else None
    return Pairs(owner.remainder(max(num_truths, 1)), place, num_truths, sizes)


def _first_beyond(limit: Tensor, origin: Tensor, stride: Tensor) -> Tensor:
    """The smallest ``k`` with ``origin + k * stride > limit``, exactly: the quotient is off by one at the most."""
    near = ((limit - origin) / stride).nan_to_num().clamp(-FAR, FAR).floor().long()
    around = near[..., None] + torch.arange(-1, 2, device=limit.device)
    is_before = origin[..., None] + around * stride[..., None] <= limit[..., None]
    return near - 1 + is_before.sum(-1)


@torch.no_grad()
def best_overlaps(boxes: Tensor, is_asked: Tensor, targets: Targets) -> Tensor:
    """Return (B, P): the highest IoU of a predicted box with any ground truth of its image, 0 where not asked for.

    Exact, but not by a table of all pairs: neighbouring priors are taken ``BLOCK`` at a time, and a block is compared
    with the truths that meet the hull of its boxes.

    Args:
        boxes: (B, P, 4) xyxy, pixels.
        is_asked: (B, P) bool.
        targets: truth of the batch.
    """
    # what is not asked for is put where it meets nothing and leaves hulls alone
    padding = (0, -is_asked.shape[1] % BLOCK)
    x1, y1, x2, y2 = sides = [
        F.pad(side.masked_fill(~is_asked, far), padding, value=far).unflatten(1, (-1, BLOCK))
        for side, far in zip(boxes.unbind(-1), (FAR, FAR, -FAR, -FAR), strict=True)
    ]  # (B, blocks, BLOCK)
    truth_x1, truth_y1, truth_x2, truth_y2 = (side[:, None] for side in targets.boxes.unbind(-1))
    meets = (x1.amin(-1)[..., None] < truth_x2) & (y1.amin(-1)[..., None] < truth_y2)  # (B, blocks, G)
    meets &= (x2.amax(-1)[..., None] > truth_x1) & (y2.amax(-1)[..., None] > truth_y1)
    image, block, truth = (meets & targets.is_valid[:, None]).nonzero(as_tuple=True)
    block = image * meets.shape[1] + block
    truth = image * targets.max_count + truth
    best = torch.zeros_like(x1).flatten(0, 1)
    sides, truths = [side.flatten(0, 1) for side in sides], targets.boxes.flatten(0, 1)
    step = OVERLAPS // BLOCK
    for some, their_truth in zip(block.split(step), truth.split(step), strict=True):
        predicted = torch.stack([side.index_select(0, some) for side in sides]).movedim(0, -1)
        overlap = aligned_iou(predicted, truths.index_select(0, their_truth)[:, None])
        best.scatter_reduce_(0, some[:, None].expand_as(overlap), overlap, "amax")
    return best.view(len(is_asked), -1)[:, : is_asked.shape[1]]
