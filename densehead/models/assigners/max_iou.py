"""The IoU thresholds of RetinaNet and of region proposal networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from densehead.models.assigners.base import BaseAssigner, no_truth
from densehead.models.assigners.candidates import (
    Contest,
    GridTensors,
    cell_range,
    chunks,
    window_places,
    window_size,
)
from densehead.models.assigners.iou import check_calculator, ignored_priors
from densehead.ops import pairwise_iou
from densehead.registry import TASK_UTILS
from densehead.structures import IGNORED, NEGATIVE, Assignment, Predictions, Priors, Targets

TINY = torch.finfo(torch.float32).tiny
TIE = 1e-4  # relative difference below which two IoUs may be the same but for rounding


@TASK_UTILS.register_module()
class MaxIoUAssigner(BaseAssigner):
    """Assign a prior to the ground truth of highest IoU, if that is high enough (Faster R-CNN, section 3.1.2).

    A prior whose highest IoU reaches ``pos_iou_thr`` is positive, one below ``neg_iou_thr`` negative, one between them
    ignored. Then (``match_low_quality``) every ground truth takes the priors of its own highest IoU, if that reaches
    ``min_pos_iou``; where several want the same prior, the last one gets it.

    On grids a ground truth is compared with the priors around it that can reach the lowest threshold at all; IoUs below
    it stand as 0 in :attr:`Assignment.overlaps`. How many there are depends on the boxes, so on CUDA the windows' size
    and the number of pairs that count are read back. A ground truth that overlaps no prior gets none (mmdetection gives
    it, at ``min_pos_iou`` 0, every prior of IoU 0).

    Args:
        pos_iou_thr: lowest IoU of a positive.
        neg_iou_thr: IoU below which a prior is negative; a pair gives a lowest IoU of negatives too.
        min_pos_iou: lowest IoU of a low-quality match.
        gt_max_assign_all: whether of priors with the same highest IoU all are taken, or only the first.
        ignore_iof_thr: priors of which a larger share than this lies in a region to ignore are ignored; off if
            not positive.
        ignore_wrt_candidates: whether the share is that of the prior (True) or of the region.
        match_low_quality: see above.
        gpu_assign_thr: accepted for mmdetection's sake; memory is bounded for any number of ground truths.
        iou_calculator: ``BboxOverlaps2D``.
        perm_repeat_gt_cfg: not supported.

    Raises:
        ValueError: a key with a value that is not supported.
    """

    needs_extent = True

    def __init__(
        self,
        pos_iou_thr: float,
        neg_iou_thr: float | tuple[float, float],
        min_pos_iou: float = 0.0,
        gt_max_assign_all: bool = True,
        ignore_iof_thr: float = -1,
        ignore_wrt_candidates: bool = True,
        match_low_quality: bool = True,
        gpu_assign_thr: float = -1,
        iou_calculator: dict | None = None,
        perm_repeat_gt_cfg: dict | None = None,
    ) -> None:
        check_calculator("MaxIoUAssigner", iou_calculator)
        if perm_repeat_gt_cfg is not None:
            raise ValueError(f"MaxIoUAssigner.perm_repeat_gt_cfg must be None, but got {perm_repeat_gt_cfg}")
        self.pos_iou_thr = pos_iou_thr
        self.neg_iou_range = tuple(neg_iou_thr) if isinstance(neg_iou_thr, (tuple, list)) else (0.0, neg_iou_thr)
        if len(self.neg_iou_range) != 2:
            raise ValueError(f"MaxIoUAssigner.neg_iou_thr must be a number or two of them, but got {neg_iou_thr}")
        self.min_pos_iou = min_pos_iou
        self.gt_max_assign_all = gt_max_assign_all
        self.ignore_iof_thr = ignore_iof_thr
        self.ignore_wrt_candidates = ignore_wrt_candidates
        self.match_low_quality = match_low_quality

    def __call__(self, priors: Priors, targets: Targets, predictions: Predictions | None = None) -> Assignment:
        """Assign every prior of every image; see the base class."""
        if not targets.max_count or not len(priors):
            return no_truth(priors, targets)
        is_ignored = ignored_priors(priors, targets, self.ignore_iof_thr, self.ignore_wrt_candidates)
        device = priors.points.device
        best = Contest(targets.num_images, len(priors), device)
        own = torch.full((targets.num_images * len(priors),), -1, device=device)  # low-quality matches
        # a prior that a region excludes leaves the closed form's best prior of a ground truth undecided
        on_grid = priors.grids and is_ignored is None
        tables = self._tables_of_grids(priors, targets) if on_grid else _tables_of_all(priors, targets, is_ignored)
        for table in tables:
            self._enter(table, targets, len(priors), best, own)
        assignment = self._decide(*best.result(), own.view(targets.num_images, -1))
        if is_ignored is not None:
            assignment = assignment.ignoring(~is_ignored)
            assignment.overlaps.masked_fill_(is_ignored, -1)
        return assignment.ignoring(priors.valid_mask())

    def _enter(self, table: Overlaps, targets: Targets, num_priors: int, best: Contest, own: Tensor) -> None:
        """Enter the pairs whose overlap matters into the contest of the priors and the matches of the truths."""
        highest = table.iou.amax(-1, keepdim=True)  # (B, g, 1)
        wanted = highest.clamp(min=TINY, max=table.lowest) if self.match_low_quality else table.lowest
        wanted = torch.where(targets.is_valid[:, table.part, None], wanted, torch.inf)
        pair = (table.iou >= wanted).flatten().nonzero()[:, 0]
        row = pair.div(table.iou.shape[-1], rounding_mode="floor")  # of (B * g,)
        image = row.div(table.iou.shape[1], rounding_mode="floor")
        truth = row - image * table.iou.shape[1] + table.part.start
        place = image * num_priors + table.prior_index(row, pair - row * table.iou.shape[-1])
        iou = table.iou.flatten()[pair]
        best.enter(place, truth, iou)
        if self.match_low_quality:
            highest = highest.flatten()
            is_own = (iou == highest[row]) & (iou >= self.min_pos_iou)
            if not self.gt_max_assign_all:
                first = place.new_full((highest.numel(),), len(own))
                first.scatter_reduce_(0, row, place.where(is_own, len(own)), "amin")
                is_own &= place == first[row]
            own.scatter_reduce_(0, place, truth.where(is_own, -1), "amax")

    def _lowest(self) -> float:
        """The lowest IoU that a threshold asks for."""
        return max(min(self.pos_iou_thr, self.neg_iou_range[0] or self.neg_iou_range[1]), 1e-6)

    def _decide(self, truth: Tensor, iou: Tensor, own: Tensor) -> Assignment:
        """Apply the thresholds to the best ground truth (B, P) of every prior, and the low-quality matches."""
        low, high = self.neg_iou_range
        index = torch.full_like(truth, IGNORED).masked_fill((iou >= low) & (iou < high), NEGATIVE)
        index = truth.where((iou >= self.pos_iou_thr) & (truth >= 0), index)
        return Assignment(own.where(own >= 0, index), iou, has_ignored=True)

    def _tables_of_grids(self, priors: Priors, targets: Targets) -> Iterator[Overlaps]:
        """Yield the overlaps of the ground truths, a bounded number at a time, with the priors around each."""
        reach = self._reach(priors, targets)  # (B, G, T, 2)
        span = torch.where(targets.is_valid[..., None, None], reach, 0).flatten(0, 1).amax(0).tolist()
        sizes = [
            (window_size(2 * rows, grid.stride_y, grid.height), window_size(2 * columns, grid.stride_x, grid.width))
            for grid, (rows, columns) in zip(priors.grids, span, strict=True)
        ]
        for part in chunks(targets.num_images, targets.max_count, sum(rows * columns for rows, columns in sizes)):
            boxes = targets.boxes[:, part]
            centre = (boxes[..., :2] + boxes[..., 2:]).flip(-1)[:, :, None] / 2
            interval = centre - reach[:, part], centre + reach[:, part]
            yield _around(priors, boxes, interval, sizes, self._lowest(), part)

    def _reach(self, priors: Priors, targets: Targets) -> Tensor:
        """(B, G, T, 2) how far (y, x) the priors of a grid that matter lie from a ground truth's centre, pixels.

        An IoU of ``t`` needs an overlap of ``t`` times the larger of the two lengths on each axis. For low-quality
        matches the priors of the highest IoU matter too: on each axis all that overlap as much as the nearest one.
        """
        grids = GridTensors.of(priors)
        size = (targets.boxes[..., 2:] - targets.boxes[..., :2]).flip(-1)[:, :, None].clamp(min=0)
        centre = (targets.boxes[..., 2:] + targets.boxes[..., :2]).flip(-1)[:, :, None] / 2
        lowest = self._lowest()
        larger, smaller = torch.maximum(size, grids.extent), torch.minimum(size, grids.extent)
        reach = (larger + smaller) / 2 - lowest * larger
        reach = reach.where((smaller >= lowest * larger).all(-1, keepdim=True), -1)
        if not self.match_low_quality:
            return reach
        nearest = ((centre - grids.origin) / grids.stride).round().maximum(grids.first[:, None])
        nearest = nearest.minimum(grids.stop[:, None] - 1)
        distance = (grids.origin + nearest * grids.stride - centre).abs()
        overlap = torch.minimum((larger + smaller) / 2 - distance, smaller).clamp(min=0).prod(-1)
        iou = overlap / (size.prod(-1) + grids.extent.prod(-1) - overlap).clamp(min=1e-6)
        iou = iou.where((grids.stop > grids.first).all(-1)[:, None], -1)  # a grid may lie in the padding as a whole
        is_best = iou >= iou.amax(-1, keepdim=True) * (1 - TIE)
        as_near = torch.maximum(distance, (larger - smaller) / 2)
        return torch.maximum(reach, as_near.where(is_best[..., None], -1))


@dataclass(frozen=True)
class Overlaps:
    """Ground truths against candidates of each: IoUs (B, g, M), and which prior the ``M`` places hold.

    Attributes:
        iou: 0 where a place holds no prior.
        lowest: IoU from which on pairs are asked for.
        part: which ground truths of each image.
        prior_index: takes rows (n,) of (B * g,) and places (n,) of (M,), and returns the priors (n,).
    """

    iou: Tensor
    lowest: float
    part: slice
    prior_index: Callable[[Tensor, Tensor], Tensor]


def _tables_of_all(priors: Priors, targets: Targets, is_ignored: Tensor | None) -> Iterator[Overlaps]:
    """Yield the overlaps of the ground truths, a bounded number at a time, with every prior."""
    is_excluded, is_valid = is_ignored, priors.valid_mask()
    if is_valid is not None:
        is_excluded = ~is_valid if is_excluded is None else is_excluded | ~is_valid
    for part in chunks(targets.num_images, targets.max_count, len(priors)):
        iou = pairwise_iou(priors.boxes, targets.boxes[:, part]).transpose(-1, -2)
        if is_excluded is not None:
            iou = iou.masked_fill(is_excluded[:, None], 0)
        yield Overlaps(iou, TINY, part, lambda row, place: place)


def _around(
    priors: Priors,
    boxes: Tensor,
    interval: tuple[Tensor, Tensor],
    sizes: Sequence[tuple[int, int]],
    lowest: float,
    part: slice,
) -> Overlaps:
    """Return the overlaps of boxes (B, g, 4) with the cells of each grid in intervals from and to (B, g, T, 2).

    The overlap of two lengths is computed for rows and for columns; their products are the tables of cells.
    """
    grids = GridTensors.of(priors)
    begin, end = cell_range(grids, *interval)  # (B, g, T, 2)
    area = (boxes[..., 2] - boxes[..., 0]) * (boxes[..., 3] - boxes[..., 1])
    tables = []
    for number, (grid, size) in enumerate(zip(priors.grids, sizes, strict=True)):
        lengths = []
        for axis, (count, cells, step) in enumerate(
            zip(size, (grid.height, grid.width), (grid.width * grid.step, grid.step), strict=True)
        ):
            cell = begin[:, :, number, axis, None] + torch.arange(count, device=boxes.device)  # (B, g, rows or columns)
            sides = priors.boxes[grid.start : grid.start + cells * step : step, 1 - axis :: 2]
            near, far = sides[cell.clamp(max=cells - 1)].unbind(-1)
            overlap = torch.minimum(far, boxes[..., None, 3 - axis]) - torch.maximum(near, boxes[..., None, 1 - axis])
            is_inside = cell <= end[:, :, number, axis, None]
            lengths.append((overlap.clamp(min=0).where(is_inside, 0), far - near))
        (height, own_height), (width, own_width) = lengths
        intersection = width[..., None, :] * height[..., None]
        union = own_width[..., None, :] * own_height[..., None]
        union.add_(area[..., None, None]).sub_(intersection).clamp_(min=1e-6)
        tables.append(intersection.div_(union).flatten(2))
    grid, row, column = window_places(sizes, boxes.device)
    corner = grids.prior_index(*begin.flatten(0, 1)[..., None].unbind(-2)).flatten()  # (B * g * T,)
    offset = (row * grids.width[grid] + column) * grids.step[grid]

    def prior_index(of_truth: Tensor, place: Tensor) -> Tensor:
        return corner[of_truth * len(sizes) + grid[place]] + offset[place]

    return Overlaps(torch.cat(tables, -1), lowest, part, prior_index)
