"""Candidates in closed form: the priors that a ground truth can want at all, found from the grids' geometry.

Every function works for all images, ground truths and grids at once and returns index tensors whose size grows with
the number of candidates, never with ground truths times priors.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from densehead.compat import is_compiling
from densehead.ops import constant
from densehead.structures import Grid, Priors

# (candidate pairs of a chunk) * (a dozen live numbers each, 4 to 8 bytes) stays below 64 MB
MAX_PAIRS = 1 << 19
LOW_BITS = 0xFFFFFFFF
INFINITE = 0x7F800000 << 32  # the least key of an infinite value, see pack
SLACK = 1e-3  # of a cell, by which windows are widened


@dataclass(frozen=True)
class GridTensors:
    """The numbers of ``T`` grids as tensors, to compute with all grids at once; y before x in the last axis."""

    origin: Tensor  # (T, 2)
    stride: Tensor  # (T, 2)
    extent: Tensor  # (T, 2) size of the prior box
    first: Tensor  # (B or 1, T, 2) first row and column that count
    stop: Tensor  # (B or 1, T, 2) last + 1
    start: Tensor  # (T,)
    step: Tensor  # (T,)
    width: Tensor  # (T,)

    @classmethod
    def of(cls, priors: Priors) -> GridTensors:
        """Collect the grids of ``priors`` on its device."""
        table = _grid_tensors(priors.grids, priors.points.device)
        limits = priors.valid_ranges
        return table if limits is None else replace(table, first=limits[..., :2], stop=limits[..., 2:])

    def prior_index(self, row: Tensor, column: Tensor, grid: Tensor | None = None) -> Tensor:
        """Return the index among all priors of cells of grids; the last axis but one is the grid without ``grid``."""
        start, width, step = (
            (values[:, None] if grid is None else values[grid]) for values in (self.start, self.width, self.step)
        )
        return start + (row * width + column) * step


@lru_cache(maxsize=64)
def _grid_tensors(grids: tuple[Grid, ...], device: torch.device) -> GridTensors:
    """The grids as a whole: made once, not at every step (on a GPU each is a copy to it)."""

    def tensor(rows, dtype=torch.float32):
        return torch.tensor(rows, dtype=dtype, device=device)

    return GridTensors(
        origin=tensor([[grid.y0, grid.x0] for grid in grids]),
        stride=tensor([[grid.stride_y, grid.stride_x] for grid in grids]),
        extent=tensor([[grid.box_height, grid.box_width] for grid in grids]),
        first=tensor([[[0, 0] for _ in grids]], torch.long),
        stop=tensor([[[grid.height, grid.width] for grid in grids]], torch.long),
        start=tensor([grid.start for grid in grids], torch.long),
        step=tensor([grid.step for grid in grids], torch.long),
        width=tensor([grid.width for grid in grids], torch.long),
    )


def nearest(priors: Priors, centres: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Find the ``count`` priors of each level whose centres lie nearest to given points.

    :func:`lowest_cells` leaves 23 cells of a grid for the 9 that ATSS takes, whatever the grid's size and wherever the
    point lies. Ties go to the lowest prior index.

    Args:
        priors: on grids.
        centres: (B, G, 2) x, y in pixels.
        count: ``K``.

    Returns:
        index (B, G, L, K) of the priors, and (B, G, L, K) bool, False where a level has fewer priors than that.
    """
    grids = GridTensors.of(priors)
    centres = centres.flip(-1)[:, :, None]  # (B, G, 1, 2): y, x
    window = torch.arange(count + 3, device=centres.device)
    begin = ((centres - grids.origin) / grids.stride - count / 2).floor().long() - 1  # (B, G, T, 2)
    first, stop = grids.first[:, None], grids.stop[:, None]
    begin = begin.clamp(max=stop - len(window)).maximum(first)
    cell = begin[..., None] + window  # (B, G, T, 2, window)
    distance = grids.origin[..., None] + cell * grids.stride[..., None] - centres[..., None]
    square, index = lowest_cells(grids, cell, distance.square().masked_fill(cell >= stop[..., None], torch.inf), count)
    # the distance in the upper half and the index in the lower: one order that sends ties to the lowest index
    key = pack(square.sqrt_(), index)
    key = key.unflatten(2, (priors.num_levels, -1)).flatten(3)  # grids of a level beside each other
    key = key.topk(min(count, key.shape[-1]), dim=-1, largest=False).values
    is_real = key < INFINITE
    return unpack(key)[1].where(is_real, 0), is_real


def lowest_cells(grids: GridTensors, cell: Tensor, cost: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Narrow a window of each grid down to cells among which its ``count`` of the lowest cost are.

    A cell costs what its row and its column cost. Rows and columns are ranked apart: a cell of the a-th cheapest row
    and the b-th cheapest column has ``a * b - 1`` cells at least as cheap, so only those with ``a * b <= count`` stay.

    Args:
        grids: ``T`` grids.
        cell: (..., T, 2, W) rows and columns of the windows.
        cost: (..., T, 2, W) of each, infinite where it does not count.
        count: see above.

    Returns:
        (..., T, R) cost and (..., T, R) prior index of the cells.
    """
    cost, order = cost.sort(dim=-1, stable=True)
    cell = cell.gather(-1, order)
    ranks = tuple((a, b) for a in range(count) for b in range(count // (a + 1)))
    row, column = constant(ranks, torch.long, cost.device).T
    rows, columns = (rank.expand(*cost.shape[:-2], -1) for rank in (row, column))
    offset = cell * torch.stack([grids.width * grids.step, grids.step], -1)[..., None]
    index = offset[..., 0, :].gather(-1, rows).add_(offset[..., 1, :].gather(-1, columns)).add_(grids.start[:, None])
    return cost[..., 0, :].gather(-1, rows).add_(cost[..., 1, :].gather(-1, columns)), index


def window_places(sizes: Sequence[tuple[int, int]], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return (M,) each: grid, row and column of the places of windows of ``sizes``, one grid after the other."""
    places = [
        torch.cartesian_prod(torch.tensor([number]), torch.arange(rows), torch.arange(columns))
        for number, (rows, columns) in enumerate(sizes)
    ]
    # sizes vary too much to keep these, but they are few enough to travel along with the commands
    return torch.cat(places).to(device, non_blocking=True).unbind(1)


def window_size(length: float, stride: float, cells: int) -> int:
    """Return how many of a grid's ``cells`` an interval of ``length`` pixels can hold at the most."""
    return cells if length / stride >= cells else int(length / stride + 2 * SLACK) + 1


def chunks(num_images: int, num_truths: int, pairs_per_truth: int) -> list[slice]:
    """Cut the ground truths so that a chunk of all images has at most ``MAX_PAIRS`` candidate pairs."""
    step = max(1, MAX_PAIRS // max(1, num_images * pairs_per_truth))
    if 0 < num_truths <= step:  # nearly always; a compiler then need not know the number
        return [slice(0, num_truths)]
    return [slice(begin, begin + step) for begin in range(0, num_truths, step)]


def pack(value: Tensor, index: Tensor) -> Tensor:
    """Pack non-negative float32 values and indices below 2 ** 31 into int64 that sort by value, then by index."""
    return value.float().contiguous().view(torch.int32).long().bitwise_left_shift_(32) | index


def unpack(key: Tensor) -> tuple[Tensor, Tensor]:
    """Undo :func:`pack`."""
    return (key >> 32).int().view(torch.float32), key & LOW_BITS


class Contest:
    """For every prior the best bid of all ground truths that want it, without a table of all pairs.

    A bid is a non-negative value; the largest wins, or the smallest if ``smallest``. Equal bids go to the lowest
    ground truth.
    """

    def __init__(self, num_images: int, num_priors: int, device: torch.device, *, smallest: bool = False) -> None:
        # as a bid, the value 0 (NaN if smallest) of the truth -1
        self._none = torch.iinfo(torch.long).max if smallest else 0
        self._best = torch.full((num_images, num_priors), self._none, dtype=torch.long, device=device)
        self._smallest = smallest
        self._reduction = "amin" if smallest else "amax"

    def bid(self, prior_index: Tensor, value: Tensor, is_bid: Tensor, first_truth: int = 0) -> None:
        """Enter bids (B, G, M) of ground truths ``first_truth`` and following for priors ``prior_index``."""
        truth = torch.arange(first_truth, first_truth + value.shape[1], device=value.device)[:, None]
        key = self._key(value, truth).where(is_bid, self._none)
        index = prior_index.expand_as(key).flatten(1)
        self._best.scatter_reduce_(1, index, key.flatten(1), self._reduction)

    def enter(self, place: Tensor, truth: Tensor, value: Tensor) -> None:
        """Enter bids (n,) of ground truths (n,) for ``place``s (n,), image times priors plus prior."""
        self._best.view(-1).scatter_reduce_(0, place, self._key(value, truth), self._reduction)

    def bid_where(
        self, is_bid: Tensor, value: Tensor, prior_index: Callable[[Tensor, Tensor, Tensor], Tensor], first_truth: int
    ) -> None:
        """Enter the bids of ground truths ``first_truth`` and following, each of which bids one value.

        On the host only the pairs that bid are looked at. Elsewhere it would have to wait for their number.

        Args:
            is_bid: (M, B, G) of each ground truth the places that it bids for.
            value: (B, G).
            prior_index: takes indices on the three axes of ``is_bid``, of any one shape, and returns the priors.
            first_truth: see above.
        """
        num_priors = self._best.shape[1]
        if is_bid.device.type == "cpu" and not is_compiling():
            place, image, truth = is_bid.nonzero().unbind(1)
            prior = image * num_priors + prior_index(place, image, truth)
            self.enter(prior, truth + first_truth, value[image, truth])
        else:
            place, image, truth = (torch.arange(size, device=value.device) for size in is_bid.shape)
            place, image = place[:, None, None], image[:, None]
            prior = (image * num_priors + prior_index(place, image, truth)).where(is_bid, 0)
            key = self._key(value, truth + first_truth).where(is_bid, self._none)
            self._best.view(-1).scatter_reduce_(0, prior.flatten(), key.flatten(), self._reduction)

    def result(self) -> tuple[Tensor, Tensor]:
        """Return (B, P) the winning ground truth or -1, and (B, P) its bid or 0."""
        halves = self._best.view(torch.int32).unflatten(-1, (-1, 2)).unbind(-1)  # as they lie: no shifts, no copies
        low, high = halves if sys.byteorder == "little" else halves[::-1]
        value = high.view(torch.float32)
        if self._smallest:
            return low.long(), value.where(low >= 0, 0)
        return low.bitwise_not().long(), value

    def _key(self, value: Tensor, truth: Tensor) -> Tensor:
        return pack(value, truth if self._smallest else LOW_BITS - truth)
