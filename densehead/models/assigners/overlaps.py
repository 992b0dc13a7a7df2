"""Pairs of a ground truth and a prior by their IoU: those that can reach a threshold, without a table of all pairs.

On a grid the overlap of two boxes is the product of what the rows and what the columns overlap. So the rows that can
reach an IoU are an interval around a ground truth, and of each row the columns that can are one: the lists made here
hold hardly more pairs than have that IoU, whatever the sizes of the boxes.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from densehead.models.assigners import candidates
from densehead.models.assigners.candidates import SLACK, GridTensors, chunks
from densehead.ops import pairwise_iou
from densehead.structures import Priors, Targets

TINY = torch.finfo(torch.float32).tiny
TIE = 1e-3  # relative difference below which two IoUs may be the same but for rounding


@dataclass(frozen=True)
class Pairs:
    """Ground truths and priors that may overlap; of a ground truth all pairs are in the same ``Pairs``.

    Attributes:
        truth: (n,) image times ``G`` plus ground truth.
        place: (n,) image times ``P`` plus prior.
        iou: (n,) their IoU.
    """

    truth: Tensor
    place: Tensor
    iou: Tensor


def overlapping_pairs(priors: Priors, targets: Targets, is_excluded: Tensor | None) -> Iterator[Pairs]:
    """Yield all pairs that overlap, a bounded number at a time; all priors are looked at for every ground truth.

    Args:
        priors: P priors, on grids or not.
        targets: G ground truths an image.
        is_excluded: (B, P) bool, True where a prior does not count; None where all do.
    """
    num_priors = len(priors)
    for part in chunks(targets.num_images, targets.max_count, num_priors):
        iou = pairwise_iou(targets.boxes[:, part], priors.boxes)  # (B, g, P)
        if is_excluded is not None:
            iou = iou.masked_fill(is_excluded[:, None], 0)
        iou = iou.where(targets.is_valid[:, part, None], 0)
        image, truth, prior = torch.nonzero(iou >= TINY, as_tuple=True)
        yield Pairs(
            image * targets.max_count + truth + part.start, image * num_priors + prior, iou[image, truth, prior]
        )


def pairs_on_grids(priors: Priors, targets: Targets, lowest: float, *, with_best: bool) -> Iterator[Pairs]:
    """Yield the pairs whose IoU reaches ``lowest``, and some of less, a bounded number at a time.

    Args:
        priors: P priors with an extent, on grids.
        targets: G ground truths an image.
        lowest: an IoU above 0.
        with_best: whether a ground truth that reaches ``lowest`` nowhere comes with the priors of its highest IoU.
    """
    windows = Windows.around(priors, targets, lowest, with_best)
    total = windows.num_cells.view(-1, len(priors.grids)).sum(1).cumsum(0).tolist()  # up to and with each truth
    begin = 0
    while begin < len(total):
        before = total[begin - 1] if begin else 0
        end = max(bisect_left(total, before + candidates.MAX_PAIRS), begin + 1)
        if total[end - 1] > before:
            yield _pairs(priors, targets, windows, slice(begin, end))
        begin = end


@dataclass(frozen=True)
class Windows:
    """Around each ground truth the cells of each grid that can reach its lowest IoU: (B * G * T, ...), y before x.

    Lengths are in cells of the grid.

    Attributes:
        begin, end: (..., 2) first and last row and column.
        num_rows: rows of each window, 0 where no cell can reach the IoU.
        centre: (..., 2) of the ground truth, counted from the centre of cell (0, 0).
        reach: (..., 2) distance of two centres from which on the boxes do not overlap.
        smaller: (..., 2) the lesser of the two lengths, which is what they can overlap at the most.
        needed: area that must overlap.
    """

    begin: Tensor
    end: Tensor
    num_rows: Tensor
    centre: Tensor
    reach: Tensor
    smaller: Tensor
    needed: Tensor

    @property
    def num_cells(self) -> Tensor:
        """(B * G * T,) cells of each window."""
        return self.num_rows * (self.end[:, 1] - self.begin[:, 1] + 1)

    @classmethod
    def around(cls, priors: Priors, targets: Targets, lowest: float, with_best: bool) -> Windows:
        """Find the windows of all ground truths; see :func:`pairs_on_grids`."""
        grids = GridTensors.of(priors)
        boxes = targets.boxes[:, :, None]  # (B, G, 1, 4)
        size = (boxes[..., 2:] - boxes[..., :2]).flip(-1).clamp(min=0) / grids.stride  # (B, G, T, 2)
        centre = ((boxes[..., 2:] + boxes[..., :2]).flip(-1) / 2 - grids.origin) / grids.stride
        extent = grids.extent / grids.stride
        reach, smaller = (size + extent) / 2, torch.minimum(size, extent)
        first, last = grids.first[:, None], grids.stop[:, None] - 1
        area = size.prod(-1) + extent.prod(-1)
        if with_best:
            distance = (centre.round().maximum(first).minimum(last) - centre).abs()
            overlap = torch.minimum(reach - distance, smaller).clamp(min=0).prod(-1)
            best = overlap / (area - overlap).clamp(min=TINY)
            # a grid may lie in the padding as a whole
            best = best.where((first <= last).all(-1), 0).amax(-1, keepdim=True)
            lowest = best.clamp(max=lowest)
        needed = ((1 - TIE) * lowest / (1 + lowest) * area).clamp(min=TINY)  # of IoU = overlap / (area - overlap)
        most = smaller.prod(-1)
        radius = reach - needed[..., None] / (most[..., None] / smaller).clamp(min=TINY)
        begin, end = _interval(centre, radius, first, last)
        is_reached = (needed <= most) & (begin <= end).all(-1) & targets.is_valid[..., None]
        num_rows = (end - begin + 1)[..., 0].where(is_reached, 0)
        fields = (begin, end, num_rows, centre, reach, smaller, needed)
        return cls(*(field.flatten(0, 2) for field in fields))


def _interval(centre: Tensor, radius: Tensor, first: Tensor, last: Tensor) -> tuple[Tensor, Tensor]:
    """Return the first and the last cell within a radius of a centre, in cells, widened so that rounding loses none."""
    begin = (centre - radius - SLACK).clamp(-1e9, 1e9).ceil().long().maximum(first)
    end = (centre + radius + SLACK).clamp(-1e9, 1e9).floor().long().minimum(last)
    return begin, end


def _pairs(priors: Priors, targets: Targets, windows: Windows, part: slice) -> Pairs:
    """Return the pairs of the ground truths ``part`` of all (B * G,)."""
    rows = Rows.of(priors, targets, windows, part)
    of = torch.repeat_interleave(rows.num_columns)

    def of_row(values: Tensor) -> Tensor:
        return values.index_select(0, of)

    place = torch.arange(len(of), device=of.device)
    begin = rows.num_columns.cumsum(0) - rows.num_columns
    place = place.mul_(of_row(rows.step)).add_(of_row(rows.first - begin * rows.step))
    near, far = (priors.boxes[:, side].repeat(targets.num_images).index_select(0, place) for side in (0, 2))
    width = torch.minimum(far, of_row(rows.right)).sub_(torch.maximum(near, of_row(rows.left))).clamp_(min=0)
    overlap = width.mul_(of_row(rows.overlap))
    union = far.sub_(near).mul_(of_row(rows.height)).add_(of_row(rows.area)).sub_(overlap).clamp_(min=1e-6)
    return Pairs(of_row(rows.truth), place, overlap.div_(union))


@dataclass(frozen=True)
class Rows:
    """The rows (r,) of windows: of each the columns that can reach the IoU of its truth, and what its cells share.

    Attributes:
        truth: image times ``G`` plus ground truth.
        first, step: image times ``P`` plus the prior of its first column, and how many further that of the next is.
        num_columns: how many.
        overlap, height: what it overlaps vertically, and the height of its priors.
        left, right, area: of the ground truth.
    """

    truth: Tensor
    first: Tensor
    step: Tensor
    num_columns: Tensor
    overlap: Tensor
    height: Tensor
    left: Tensor
    right: Tensor
    area: Tensor

    @classmethod
    def of(cls, priors: Priors, targets: Targets, windows: Windows, part: slice) -> Rows:
        """Return the rows of the windows of the ground truths ``part`` of all (B * G,)."""
        grids, num_grids = GridTensors.of(priors), len(priors.grids)
        window, row = _enumerate(windows.num_rows[part.start * num_grids : part.stop * num_grids])
        window += part.start * num_grids
        row += windows.begin[:, 0].index_select(0, window)
        column, num_columns = _columns(windows, window, row)
        truth, grid = window.div(num_grids, rounding_mode="floor"), window % num_grids
        start, step, width = (values.index_select(0, grid) for values in (grids.start, grids.step, grids.width))
        first = width.mul_(row).mul_(step).add_(start)
        left, top, right, bottom = targets.boxes.flatten(0, 1).index_select(0, truth).unbind(1)
        near, far = (priors.boxes[:, side].index_select(0, first) for side in (1, 3))
        return cls(
            truth=truth,
            first=truth.div(targets.max_count, rounding_mode="floor").mul_(len(priors)) + first + column * step,
            step=step,
            num_columns=num_columns,
            overlap=(torch.minimum(bottom, far) - torch.maximum(top, near)).clamp_(min=0),
            height=far - near,
            left=left,
            right=right,
            area=(right - left) * (bottom - top),
        )


def _columns(windows: Windows, window: Tensor, row: Tensor) -> tuple[Tensor, Tensor]:
    """Return (r,) the first column of rows (r,) of windows (r,) that can reach the IoU, and how many do."""
    fields = (windows.begin, windows.end, windows.centre, windows.reach, windows.smaller, windows.needed)
    begin, end, centre, reach, smaller, needed = (field.index_select(0, window) for field in fields)
    overlap = torch.minimum(reach[:, 0] - (row - centre[:, 0]).abs_(), smaller[:, 0])
    needed = needed.div_(overlap.clamp_(min=TINY))
    radius = (reach[:, 1] - needed).where(needed <= smaller[:, 1] + SLACK, -torch.inf)
    begin, end = _interval(centre[:, 1], radius, begin[:, 1], end[:, 1])
    return begin, (end - begin + 1).clamp_(min=0)


def _enumerate(counts: Tensor) -> tuple[Tensor, Tensor]:
    """Return (n,) each: for ``counts`` (m,) things of each of ``m`` sorts the sort, and the number within it."""
    of = torch.repeat_interleave(counts)
    begin = counts.cumsum(0) - counts
    return of, torch.arange(len(of), device=of.device).sub_(begin.index_select(0, of))
