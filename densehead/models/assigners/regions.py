"""Which priors lie in any of many regions: on grids, a picture into which every region paints its cells."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from densehead.models.assigners.candidates import chunks
from densehead.structures import Grid, Priors, Targets

Regions = Callable[[Tensor, Tensor], list[tuple[Tensor, Tensor]]]


def inside_any(priors: Priors, targets: Targets, regions: Regions) -> Tensor:
    """Return (B, P) bool: whether a prior's point lies within any region of any ground truth of its image.

    A point on a region's edge lies outside. On grids the work is that of ground truths times rows of cells.

    Args:
        priors: P priors; those that do not count for an image are outside.
        targets: the ground truths.
        regions: takes boxes (B, g, 1, 4) and the strides (n, 1) of n grids or priors, and returns regions as pairs of
            a low and a high corner (B, g, n or 1, 2), x, y in pixels.
    """
    inside = _paint(priors, targets, regions) if priors.grids else _test_all(priors, targets, regions)
    is_valid = priors.valid_mask()
    return inside if is_valid is None else inside & is_valid


def _test_all(priors: Priors, targets: Targets, regions: Regions) -> Tensor:
    inside = torch.zeros(targets.num_images, len(priors), dtype=torch.bool, device=priors.points.device)
    for part in chunks(targets.num_images, targets.max_count, len(priors)):
        is_valid = targets.is_valid[:, part, None]
        for low, high in regions(targets.boxes[:, part, None], priors.strides[:, None]):
            inside |= (((priors.points > low) & (priors.points < high)).all(-1) & is_valid).any(1)
    return inside


@dataclass(frozen=True)
class Lines:
    """The ``R`` rows of cells of ``T`` grids, one after the other, and where all cells stand among the priors.

    Attributes:
        grid, line: (R,) the grid of each row, and the row's number therein.
        first_cell: (R,) number of cells before the row.
        cell: (P,) for each prior the number of cells before its own.
        first_of_row, first_of_column: (T, most rows or columns) of each grid's rows (columns) one prior, or -1.
    """

    grid: Tensor
    line: Tensor
    first_cell: Tensor
    cell: Tensor
    first_of_row: Tensor
    first_of_column: Tensor

    @staticmethod
    @lru_cache(maxsize=64)
    def of(grids: tuple[Grid, ...], device: torch.device) -> Lines:
        """Make the tables, once for each combination of grids."""
        cells = [torch.arange(grid.height * grid.width) * grid.step + grid.start for grid in grids]
        tables = [cell.view(grid.height, grid.width) for cell, grid in zip(cells, grids, strict=True)]
        height, width = (torch.tensor([table.shape[axis] for table in tables]) for axis in (0, 1))
        rows = sum(len(table) for table in tables)
        widths = width.repeat_interleave(height, output_size=rows)
        return Lines(
            grid=torch.arange(len(grids)).repeat_interleave(height, output_size=rows).to(device),
            line=torch.cat([torch.arange(len(table)) for table in tables]).to(device),
            first_cell=(widths.cumsum(0) - widths).to(device),
            cell=torch.cat(cells).argsort().to(device),
            first_of_row=_padded([table[:, :1].flatten() for table in tables]).to(device),
            first_of_column=_padded([table[:1].flatten() for table in tables]).to(device),
        )


def _padded(rows: list[Tensor]) -> Tensor:
    return pad_sequence(rows, batch_first=True, padding_value=-1)


def _paint(priors: Priors, targets: Targets, regions: Regions) -> Tensor:
    """Count along the cells the regions that have begun in their row, less those that have ended."""
    lines = Lines.of(priors.grids, priors.points.device)
    y = priors.points[lines.first_of_row, 1].where(lines.first_of_row >= 0, torch.inf)
    x = priors.points[lines.first_of_column, 0].where(lines.first_of_column >= 0, torch.inf)
    strides = priors.strides[lines.first_of_row[:, :1]]
    change = torch.zeros(targets.num_images, len(priors) + 1, dtype=torch.int32, device=y.device)
    for part in chunks(targets.num_images, targets.max_count, len(lines.grid)):
        for low, high in regions(targets.boxes[:, part, None], strides):
            top, bottom = _between(y, low[..., 1], high[..., 1], lines.grid)
            left, right = _between(x, low[..., 0], high[..., 0], lines.grid)
            is_hit = (lines.line >= top) & (lines.line < bottom) & (left < right) & targets.is_valid[:, part, None]
            is_hit = is_hit.flatten(1).int()
            change.scatter_add_(1, (lines.first_cell + left).flatten(1), is_hit)
            change.scatter_add_(1, (lines.first_cell + right).flatten(1), -is_hit)
    return (change.cumsum(1) > 0)[:, lines.cell]


def _between(values: Tensor, low: Tensor, high: Tensor, grid: Tensor) -> tuple[Tensor, Tensor]:
    """First number, and last + 1, of the ascending values (T, n) within (low, high), (B, g, T or 1) each; of the grids
    (R,): (B, g, R) each."""
    ends = []
    for limit, right in ((low, True), (high, False)):
        limit = limit.expand(-1, -1, len(values)).permute(2, 0, 1)
        number = torch.searchsorted(values, limit.flatten(1).to(values.dtype).contiguous(), right=right)
        ends.append(number.unflatten(1, limit.shape[1:]).permute(1, 2, 0)[..., grid])
    return tuple(ends)
