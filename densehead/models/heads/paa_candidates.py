"""Which candidates of the ground truths of a batch PAA looks at, and where it parts them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

# Log-densities closer than this are equal but for rounding: two samples alone in a component lie at the same distance
# from its mean. The first of them counts, whatever the machine's order of summation.
_TIE = 1e-9


@dataclass(frozen=True)
class CandidateTable:
    """The candidates of ``T`` ground truths, a row each, least loss first; ``K`` is levels times candidates a level.

    Attributes:
        index: (T, K) where each stands among the samples that the table was made of; anything where padded.
        losses: (T, K), inf where padded.
    """

    index: Tensor
    losses: Tensor

    @property
    def is_real(self) -> Tensor:
        """(T, K) bool, False where padded."""
        return self.losses.isfinite()

    @property
    def count(self) -> Tensor:
        """(T, 1) candidates of each ground truth."""
        return self.is_real.sum(1, keepdim=True)

    @classmethod
    def best_of_levels(
        cls, losses: Tensor, truth: Tensor, level: Tensor, *, topk: int, num_truths: int, num_levels: int
    ) -> CandidateTable:
        """Take of every ground truth and level the ``topk`` samples of the least losses.

        Args:
            losses: (N,); what is not finite is no candidate.
            truth: (N,) ground truth of each sample.
            level: (N,) its pyramid level.
            topk: how many of a level at most.
            num_truths: ``T``.
            num_levels: number of levels.
        """
        losses = losses.where(losses.isfinite(), torch.inf)
        # one sort, by cell and then by loss: bits of a float sort as it does, once those of negative ones are turned
        bits = losses.float().view(torch.int32).long()
        bits = torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
        key, order = ((truth * num_levels + level) * (1 << 32) + bits).sort(stable=True)
        cell = (key + (1 << 31)) >> 32
        first = torch.searchsorted(cell, torch.arange(num_truths * num_levels, device=cell.device))
        rank = torch.arange(len(cell), device=cell.device) - first.index_select(0, cell)
        size = num_truths * num_levels * topk
        place = (cell * topk + rank).where(rank < topk, size)  # one more place takes all that are too many
        table = losses.new_full((size + 1,), torch.inf).scatter_(0, place, losses.index_select(0, order))
        index = order.new_zeros(size + 1).scatter_(0, place, order)
        ordered, by_loss = table[:-1].view(num_truths, num_levels * topk).sort(dim=1, stable=True)
        return cls(index[:-1].view_as(by_loss).gather(1, by_loss), ordered)

    def named_by(self, mask: Tensor, num_samples: int) -> Tensor:
        """Return (N,) bool: which of the samples that the table was made of a mask (T, K) names."""
        place = self.index.where(self.is_real, num_samples)
        named = torch.zeros(num_samples + 1, dtype=torch.bool, device=mask.device)
        return named.scatter(0, place.flatten(), mask.flatten())[:-1]


def part_at_peak(table: CandidateTable, component: Tensor, log_density: Tensor) -> Tensor:
    """Return (T, K) bool: the candidates of the low-loss component up to the one where the mixture is densest.

    So the border lies as in figure 3 (c) of the paper, and as mmdetection has it. Of fewer than two candidates, and
    where none belongs to the low-loss component, none is positive.

    Args:
        table: the candidates.
        component: (T, K) 0 where a candidate belongs to the low-loss component, 1 where to the other.
        log_density: (T, K) of the mixture at the candidates.
    """
    is_low = table.is_real & (component == 0)
    return is_low & _up_to_peak(is_low, log_density) & (table.count > 1)


def part_as_the_paper(table: CandidateTable, component: Tensor, log_density: Tensor) -> Tensor:
    """Return (T, K) bool, as the code of the paper's authors decides it; arguments as of :func:`part_at_peak`.

    All candidates up to the peak are positive, also those of lower loss that the wider, high-loss component has taken.
    A single candidate is positive, and so are all where none belongs to the low-loss component.
    """
    is_low = table.is_real & (component == 0)
    return table.is_real & _up_to_peak(is_low, log_density)


def _up_to_peak(is_low: Tensor, log_density: Tensor) -> Tensor:
    """(T, K) bool: what stands no later in its row than the densest of ``is_low``; all where there is none."""
    density = log_density.where(is_low, -torch.inf)
    highest = density.amax(1, keepdim=True)
    is_peak = is_low & (density >= highest - _TIE * (1 + highest.abs()))
    return is_peak.cumsum(1) - is_peak.long() == 0
