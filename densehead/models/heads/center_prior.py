"""The centre prior of AutoAssign: where inside their boxes the objects of each class are (https://arxiv.org/abs/2007.03496)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from densehead.models.assigners.candidates import GridTensors, lowest_cells, pack, unpack
from densehead.models.heads.inside_pairs import Rectangles, inside_rectangles
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

    def forward(self, priors: Priors, targets: Targets, rectangles: Rectangles) -> tuple[Tensor, Tensor]:
        """Return (R,) and (S,): of every row and every column the logarithm of the weight there, 0 at the peak.

        That of a pair is the sum of those of its row and its column.
        """
        grids = GridTensors.of(priors)
        unit = grids.stride.amax(-1)  # as of priors.strides
        centres = (targets.boxes[..., :2] + targets.boxes[..., 2:]) / 2
        exponents = []
        for axis, (owner, number) in enumerate((rectangles.rows, rectangles.columns)):  # y, then x
            grid, truth = (values.index_select(0, owner) for values in (rectangles.grid, rectangles.truth))
            origin, stride, length = (
                values.index_select(0, grid) for values in (grids.origin[:, axis], grids.stride[:, axis], unit)
            )
            centre, mean, precision = (
                values[..., 1 - axis].flatten().index_select(0, truth) for values in (centres, *self._by_label(targets))
            )
            points = origin + rectangles.first[:, axis].index_select(0, owner).add_(number) * stride
            exponents.append(((points - centre) / length - mean) ** 2 * precision)
        return -exponents[0], -exponents[1]

    @torch.no_grad()
    def rectangles(self, priors: Priors, targets: Targets) -> Rectangles:
        """Find the pairs that count: the priors inside each ground truth and, with ``force_topk``, the forced ones."""
        rectangles = inside_rectangles(priors, targets)
        if not self.force_topk:
            return rectangles
        is_empty = (rectangles.count() == 0).view_as(targets.is_valid) & targets.is_valid
        image, truth = is_empty.nonzero(as_tuple=True)
        index, is_real = self._best(priors, targets, image, truth)
        row, column = is_real.nonzero(as_tuple=True)
        image, truth = image[row], truth[row]
        return rectangles.joined(image * targets.max_count + truth, image, index[row, column], priors)

    def _best(self, priors: Priors, targets: Targets, image: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
        """(M, K) the priors of the highest weight for ``M`` truths, and (M, K) bool: False where there are too few.

        The exponent is a sum over the axes, so the best cells of a grid come in closed form. Ties go to the lowest
        prior.
        """
        grids = GridTensors.of(priors)
        centres = (targets.boxes[..., :2] + targets.boxes[..., 2:]) / 2
        centre, mean, precision = (
            values[image, truth].flip(-1)[:, None] for values in (centres, *self._by_label(targets))
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

    def _by_label(self, targets: Targets) -> tuple[Tensor, Tensor]:
        """(B, G, 2) each, x and y: the means and the halved precisions of the truths' classes."""
        precision = 1 / (2 * self.sigma**2).clamp(min=EPS)
        return self.mean[targets.labels], precision[targets.labels]
