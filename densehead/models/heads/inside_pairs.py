"""The pairs of a ground truth and a prior inside it, of a whole batch: no table of all pairs anywhere.

On every grid the points inside a box fill a rectangle of cells. What is the same for a row or a column of it is kept
by rows and columns; the pairs themselves, as many as the truths are large (a box of ``w x h`` pixels holds about
``w * h / stride^2`` points of a level), are listed some truths at a time. How many there are decides the size of
everything that follows, so on CUDA finding the rectangles waits for the device once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional as F

from densehead.models.assigners.candidates import GridTensors
from densehead.models.heads.pairs import Pairs, cut, runs_of
from densehead.structures import LevelTensor, Priors, Share, Targets
from densehead.structures.lazy import lazy

PAIRS = 1 << 17  # that are listed at a time on the host, unless a single truth has more
FAR = 1e9  # beyond all images, pixels


@dataclass(frozen=True)
class Rectangles:
    """``K`` rectangles of grid cells, each inside one ground truth: those of a level stand together.

    Attributes:
        truth: (K,) ``image * G + ground truth``.
        grid: (K,) number of the grid, which is that of the level.
        first, size: (K, 2) first row and column, and number of rows and columns; no cell where a number is 0.
        corner: (K,) ``image * P + prior`` of the first cell.
        width: (K,) priors of a row of the grid.
        counts: numbers of all rows, columns and pairs.
        level_pairs: number of the pairs of each level; None where levels are mixed.
        num_truths: ``B * G``, padded ones among them.
    """

    truth: Tensor
    grid: Tensor
    first: Tensor
    size: Tensor
    corner: Tensor
    width: Tensor
    counts: tuple[int, int, int]
    level_pairs: tuple[int, ...] | None
    num_truths: int

    def __len__(self) -> int:
        """The number of pairs."""
        return self.counts[2]

    @lazy
    def rows(self) -> tuple[Tensor, Tensor]:
        """(R,) each: the rectangle of every row, and which of its rows it is."""
        return runs_of(self.size[:, 0], self.counts[0])

    @lazy
    def columns(self) -> tuple[Tensor, Tensor]:
        """(S,) each: the rectangle of every column, and which of its columns it is."""
        return runs_of(self.size[:, 1], self.counts[1])

    @lazy
    def _lines(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(R,) each, of every row: number of pairs, truth, place of the first pair, column of the first pair."""
        owner, row = self.rows
        columns = self.size[:, 1]
        first_column = columns.cumsum(0) - columns
        place = self.corner.index_select(0, owner).addcmul_(row, self.width.index_select(0, owner))
        length, truth, column = (values.index_select(0, owner) for values in (columns, self.truth, first_column))
        return length, truth, place, column

    def count(self) -> Tensor:
        """Return (B * G,) how many pairs each truth has."""
        return self.truth.new_zeros(self.num_truths).scatter_add_(0, self.truth, self.size.prod(-1))

    def is_inside(self, num_places: int) -> Tensor:
        """Return (B * P,) bool: whether a prior is in any rectangle."""
        length, _, place, _ = self._lines
        steps = torch.zeros(num_places + 1, dtype=torch.long, device=place.device)
        steps.scatter_add_(0, place, torch.ones_like(place)).scatter_add_(0, place + length, -torch.ones_like(place))
        return steps[:-1].cumsum(0) > 0

    def sum_of_products(self, of_rows: Tensor, of_columns: Tensor) -> Tensor:
        """Return (B * G,): over each truth's pairs the sum of what a row (R,) has times what a column (S,) has."""
        rows, columns = (
            values.new_zeros(len(self.truth)).index_add(0, owner, values)
            for values, (owner, _) in ((of_rows, self.rows), (of_columns, self.columns))
        )
        return rows.new_zeros(self.num_truths).index_add(0, self.truth, rows * columns)

    @lazy
    def pairs(self) -> Pairs:
        """All pairs at once."""
        return self.listed()

    def listed(self) -> Pairs:
        """List all pairs, for one use: unlike :attr:`pairs` the list is not kept."""
        return self._listed([slice(0, self.counts[0])], [slice(0, self.counts[2])])

    def chunks(self) -> Iterator[Pairs]:
        """List the pairs, those of about ``PAIRS`` at a time and of whole truths; on a GPU all at once."""
        if self.truth.device.type != "cpu" or len(self) <= PAIRS:
            yield self.pairs
            return
        groups = -(-len(self.truth) // max(self.num_truths, 1))
        total = self.count().cumsum(0)
        steps = torch.arange(PAIRS, len(self), PAIRS)
        cuts = [0, *torch.searchsorted(total, steps).unique().tolist(), self.num_truths]
        edges = (torch.arange(groups)[:, None] * self.num_truths + torch.tensor(cuts)).clamp(max=len(self.truth))
        rows, pairs = (
            F.pad(number.cumsum(0), (1, 0))[edges].T.tolist() for number in (self.size[:, 0], self.size.prod(-1))
        )
        for (begin, end), (first, last) in zip(pairwise(rows), pairwise(pairs), strict=True):
            yield self._listed(list(map(slice, begin, end)), list(map(slice, first, last)))

    def _listed(self, lines: list[slice], runs: list[slice]) -> Pairs:
        length, truth, place, column = (cut(values, lines) for values in self._lines)
        count = sum(run.stop - run.start for run in runs)
        start = length.cumsum(0) - length
        line = torch.arange(len(length), device=length.device).repeat_interleave(length, output_size=count)
        number = torch.arange(count, device=length.device)
        place, column = (number + (first - start).index_select(0, line) for first in (place, column))
        own = truth.index_select(0, line)
        return Pairs(own, place, line, column, truth, length, lines, runs, self.num_truths)

    def numbers(self, which: Tensor, offset: Tensor, size: Tensor) -> Tensor:
        """Return (n,): of the pairs in parts of rectangles, one part after the other, the numbers among all pairs.

        Args:
            which: (M,) the rectangles; one may be named twice.
            offset, size: (M, 2) where in it the part begins, and how many rows and columns it has.
        """
        rows, columns = size.unbind(-1)
        num_rows, count = torch.stack([rows.sum(), (rows * columns).sum()]).tolist()
        length = self._lines[0]
        start = length.cumsum(0) - length
        first_line = self.size[:, 0].cumsum(0) - self.size[:, 0]
        part, row = runs_of(rows, num_rows)
        row += (first_line[which] + offset[:, 0]).index_select(0, part)
        begin = start.index_select(0, row).add_(offset[:, 1].index_select(0, part))
        line, column = runs_of(columns.index_select(0, part), count)
        return column.add_(begin.index_select(0, line))

    def heaviest(self, log_rows: Tensor, log_columns: Tensor, reach: float) -> tuple[Rectangles, Tensor]:
        """Return what these rectangles have of the pairs whose weight is at least ``exp(-reach)`` of the highest of
        their truth, and few others; and (B * G,) the logarithm of the highest.

        Args:
            log_rows, log_columns: (R,) and (S,) logarithms of factors that fall from a peak to both sides.
            reach: above 0.
        """
        sides = ((log_rows, *self.rows), (log_columns, *self.columns))
        tops = [
            values.new_full(self.truth.shape, -torch.inf).scatter_reduce_(0, owner, values, "amax")
            for values, owner, _ in sides
        ]
        top = tops[0] + tops[1]
        peak = top.new_full((self.num_truths,), -torch.inf).scatter_reduce_(0, self.truth, top, "amax")
        lack = top - peak[self.truth] + reach  # by which a row or a column may be below the best of its rectangle
        offsets, sizes = [], []
        for (values, owner, number), best in zip(sides, tops, strict=True):
            is_near = values >= (best - lack).index_select(0, owner)
            sizes.append(torch.zeros_like(self.truth).scatter_add_(0, owner, is_near.long()))
            far = number.where(is_near, torch.iinfo(torch.long).max)
            offsets.append(torch.full_like(self.truth, far.numel()).scatter_reduce_(0, owner, far, "amin"))
        size = torch.stack(sizes, -1)
        size = size * (size > 0).all(-1, keepdim=True)
        offset = torch.stack(offsets, -1) * (size > 0)
        counts = torch.cat([size.sum(0), size.prod(-1).sum()[None]]).tolist()
        corner = self.corner + offset[:, 0] * self.width + offset[:, 1]
        near = replace(self, first=self.first + offset, size=size, corner=corner, counts=tuple(counts))
        return near, peak

    def of_truth(self, values: Tensor) -> Tensor:
        """Return (N,): of values (B, G) those of each pair's truth."""
        length, truth, _, _ = self._lines
        return values.flatten()[truth].repeat_interleave(length, output_size=len(self))

    def joined(self, truth: Tensor, image: Tensor, prior: Tensor, priors: Priors) -> Rectangles:
        """Return these rectangles and more of one cell each: priors (M,) of images (M,) and their truths (M,)."""
        grids, number = GridTensors.of(priors), len(truth)
        grid = priors.level_index[prior]
        cell, width = prior - grids.start[grid], grids.width[grid]
        row = cell.div(width, rounding_mode="floor")
        more = dict(truth=truth, grid=grid, first=torch.stack([row, cell - row * width], -1), width=width)
        more |= dict(size=torch.ones_like(more["first"]), corner=image * len(priors) + prior)
        more = {key: torch.cat([getattr(self, key), values]) for key, values in more.items()}
        return replace(self, **more, counts=tuple(count + number for count in self.counts), level_pairs=None)

    def shares(self, tensor: LevelTensor, num_priors: int) -> list[Share]:
        """Return where the pairs' priors stand in the pieces of a quantity with one prior at a place."""
        length, _, place, _ = self._lines
        image = place.div(max(num_priors, 1), rounding_mode="floor")
        start = length.cumsum(0) - length
        line = torch.arange(len(length), device=length.device).repeat_interleave(length, output_size=len(self))
        prior = (place - image * num_priors - start).index_select(0, line)
        prior += torch.arange(len(self), device=length.device)
        image = image.index_select(0, line)
        if self.level_pairs is None or len(tensor.pieces) != len(self.level_pairs):
            return tensor.shares(image, prior)
        base, shares, first, begin = image.new_zeros(()), [], 0, 0
        for size, piece in zip(self.level_pairs, tensor.pieces, strict=True):
            mine = slice(first, first + size)
            shares.append(Share(mine, image[mine], base.expand(size), prior[mine].sub_(begin)))
            first, begin = first + size, begin + piece.shape[-1]
        return shares


def inside_rectangles(priors: Priors, targets: Targets) -> Rectangles:
    """Find for every ground truth the priors whose points lie strictly inside its box, level by level.

    Args:
        priors: on grids, one a level.
        targets: truth of the batch.
    """
    grids = GridTensors.of(priors)
    low, high = (side.flip(-1)[:, :, None] for side in targets.boxes.split(2, -1))  # (B, G, 1, 2): y, x
    first = _first_beyond(low, grids.origin, grids.stride).maximum(grids.first[:, None])  # (B, G, T, 2)
    last = -_first_beyond(-high, -grids.origin, grids.stride)
    size = (last.minimum(grids.stop[:, None] - 1) - first + 1).clamp(min=0)
    size = size * ((size > 0).all(-1) & targets.is_valid[..., None])[..., None]
    image = torch.arange(targets.num_images, device=first.device)[:, None, None]
    corner = image * len(priors) + grids.start + first[..., 0] * grids.width + first[..., 1]
    grid = torch.arange(len(grids.width), device=first.device).expand_as(corner)
    numbers = torch.cat([size.sum((0, 1)), size.prod(-1).sum((0, 1))[:, None]], 1).tolist()
    first, size, corner, grid, width = (
        values.movedim(2, 0).flatten(0, 2) for values in (first, size, corner, grid, grids.width.expand_as(corner))
    )
    num_truths = targets.num_images * targets.max_count
    truth = torch.arange(num_truths, device=first.device).repeat(len(priors.grids))
    rows, columns, pairs = zip(*numbers, strict=True)
    counts = sum(rows), sum(columns), sum(pairs)
    return Rectangles(truth, grid, first, size, corner, width, counts, pairs, num_truths)


def _first_beyond(limit: Tensor, origin: Tensor, stride: Tensor) -> Tensor:
    """The smallest ``k`` with ``origin + k * stride > limit``, exactly: the quotient is off by one at the most."""
    near = ((limit - origin) / stride).nan_to_num().clamp(-FAR, FAR).floor().long()
    around = near[..., None] + torch.arange(-1, 2, device=limit.device)
    is_before = origin[..., None] + around * stride[..., None] <= limit[..., None]
    return near - 1 + is_before.sum(-1)
