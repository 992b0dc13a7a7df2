"""The centre prior of AutoAssign: where inside their boxes the objects of each class are (https://arxiv.org/abs/2007.03496)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from densehead.models.assigners.candidates import GridTensors, lowest_cells, pack, unpack
from densehead.models.heads.inside_pairs import Pairs, inside_pairs
from densehead.structures import Priors, Targets

EPS = 1e-12


class CenterPrior(nn.Module):
    """A Gaussian around the centres of boxes, with a mean and a deviation of each class that are learned.

    Both are in units of the stride of a prior's level, so that a box has its peak on every level.

    Args:
        force_topk: whether a ground truth without a prior inside gets the ``topk`` priors of the highest weight.
        topk: how many; all where there are fewer.
        num_classes: ``C``.
        strides: accepted for mmdetection's sake; priors know theirs.

    Attributes:
        mean, sigma: (C, 2) x, y in strides.

    Raises:
        ValueError: ``topk`` below 1.
    """

    def __init__(
        self,
        force_topk: bool = False,
        topk: int = 9,
        num_classes: int = 80,
        strides: Sequence[int] = (8, 16, 32, 64, 128),
    ) -> None:
        super().__init__()
        if topk < 1:
            raise ValueError(f"bbox_head.topk must be at least 1, but got {topk}")
        self.mean = nn.Parameter(torch.zeros(num_classes, 2))
        self.sigma = nn.Parameter(torch.ones(num_classes, 2))
        self.force_topk = force_topk
        self.topk = topk
        self.strides = strides

    def forward(self, priors: Priors, targets: Targets, pairs: Pairs) -> Tensor:
        """Return (N,) the logarithm of the weight of each pair, 0 at the peak."""
        index = pairs.place % max(len(priors), 1)
        stride = priors.strides[index]
        exponent = 0.0
        for points, centres, mean, precision in zip(*self._by_axis(priors, targets), strict=True):
            distance = (points[index] - pairs.of_truth(centres)) / stride - pairs.of_truth(mean)
            exponent = exponent + distance**2 * pairs.of_truth(precision)
        return -exponent

    @torch.no_grad()
    def pairs(self, priors: Priors, targets: Targets) -> Pairs:
        """List the pairs that count: the priors inside each ground truth and, with ``force_topk``, the forced ones."""
        pairs = inside_pairs(priors, targets)
        if not self.force_topk:
            return pairs
        is_empty = (pairs.count() == 0).view_as(targets.is_valid) & targets.is_valid
        image, truth = is_empty.nonzero(as_tuple=True)
        index, is_real = self._best(priors, targets, image, truth)
        row, column = is_real.nonzero(as_tuple=True)
        image, truth = image[row], truth[row]
        return pairs.joined(image * targets.max_count + truth, image * len(priors) + index[row, column])

    def _best(self, priors: Priors, targets: Targets, image: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """(M, K) the priors of the highest weight for ``M`` truths, and (M, K) bool: False where there are too few.

        The exponent is a sum over the axes, so the best cells of a grid come in closed form. Ties go to the lowest
        prior.
        """
        grids = GridTensors.of(priors)
        _, centre, mean, precision = self._by_axis(priors, targets)
        centre, mean, precision = (
            torch.stack([axis[image, truth] for axis in reversed(axes)], -1)[:, None]
            for axes in (centre, mean, precision)
        )  # (M, 1, 2) each: y, x
        first, stop = grids.first[image % len(grids.first)], grids.stop[image % len(grids.stop)]  # (M, T, 2)
        window = torch.arange(self.topk + 3, device=centre.device)
        unit = grids.stride.amax(-1, keepdim=True)  # as of priors.strides
        begin = ((centre + mean * unit - grids.origin) / grids.stride - self.topk / 2).floor().long() - 1
        cell = begin.clamp(max=stop - len(window)).maximum(first)[..., None] + window  # (M, T, 2, window)
        points = grids.origin[..., None] + cell * grids.stride[..., None]
        distance = (points - centre[..., None]) / unit[..., None] - mean[..., None]
        exponent = (distance**2 * precision[..., None]).masked_fill(cell >= stop[..., None], torch.inf)
        exponent, index = lowest_cells(grids, cell, exponent, self.topk)  # (M, T, ranks)
        key = torch.where(exponent.isinf(), torch.iinfo(torch.long).max, pack(exponent, index)).flatten(1)
        key = key.topk(min(self.topk, key.shape[1]), largest=False).values
        return unpack(key)[1], key < torch.iinfo(torch.long).max

    def _by_axis(self, priors: Priors, targets: Targets) -> tuple[tuple[Tensor, Tensor], ...]:
        """For x and y: the priors' points (P,), and the truths' centres, means and halved precisions (B, G)."""
        centres = (targets.boxes[..., :2] + targets.boxes[..., 2:]) / 2
        precision = 1 / (2 * self.sigma**2).clamp(min=EPS)
        tables = (priors.points, centres, self.mean[targets.labels], precision[targets.labels])
        return tuple(table.unbind(-1) for table in tables)
