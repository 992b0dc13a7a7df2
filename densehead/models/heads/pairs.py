"""Pairs of a ground truth and a prior inside it, listed; and what is summed and compared over the pairs of a truth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Pairs:
    """``n`` pairs of a ground truth and a prior of the same image: all those of some truths.

    Attributes:
        truth: (n,) ``image * G + ground truth``.
        place: (n,) ``image * P + prior``.
        line, column: (n,) the pair's row among ``lines`` and its column among all.
        line_truth, line_length: of each row its truth and how many pairs it has; they follow each other.
        lines: the rows of these pairs, as runs of all rows.
        runs: these pairs, as runs of all pairs.
        num_truths: ``B * G``, padded ones among them.
    """

    truth: Tensor
    place: Tensor
    line: Tensor
    column: Tensor
    line_truth: Tensor
    line_length: Tensor
    lines: list[slice]
    runs: list[slice]
    num_truths: int

    def __len__(self) -> int:
        return self.truth.shape[0]

    def of_truth(self, values: Tensor) -> Tensor:
        """Return (n,): of values (B * G,) or (B, G) those of each pair's truth."""
        return values.reshape(-1).index_select(0, self.truth)

    def of_place(self, values: Tensor) -> Tensor:
        """Return (n,): of values (B * P,) or (B, P) those of each pair's prior."""
        return values.reshape(-1).index_select(0, self.place)

    def sum(self, values: Tensor) -> Tensor:
        """Return (B * G,) the sum over each truth's pairs of values (n,)."""
        return values.new_zeros(self.num_truths).scatter_add_(0, self.line_truth, self.sum_of_lines(values))

    def sum_of_lines(self, values: Tensor) -> Tensor:
        """Return the sum over the pairs of each row of values (n,)."""
        if values.device.type == "cpu":  # adding to one place again and again takes four times as long
            return torch.segment_reduce(values, "sum", lengths=self.line_length, unsafe=True)
        return values.new_zeros(len(self.line_truth)).scatter_add_(0, self.line, values)

    def amax(self, values: Tensor) -> Tensor:
        """Return (B * G,) the largest of each truth's values (n,), -inf where it has no pair here."""
        return values.new_full((self.num_truths,), -torch.inf).scatter_reduce_(0, self.truth, values, "amax")

    def amin(self, values: Tensor) -> Tensor:
        """Return (B * G,) the smallest of each truth's values (n,), inf where it has no pair here."""
        return values.new_full((self.num_truths,), torch.inf).scatter_reduce_(0, self.truth, values, "amin")


def cut(values: Tensor, runs: list[slice]) -> Tensor:
    """Return some runs of values (N,), one after the other."""
    return values[runs[0]] if len(runs) == 1 else torch.cat([values[run] for run in runs])


def put(values: Tensor, runs: list[slice], some: Tensor) -> None:
    """Write some values into runs of values (N,), one after the other."""
    for run, part in zip(runs, some.split([run.stop - run.start for run in runs]), strict=True):
        values[run] = part


def runs_of(sizes: Tensor, total: int) -> tuple[Tensor, Tensor]:
    """(total,) each: for runs of ``sizes`` that follow each other, the run of every element and where in it that is."""
    run = torch.arange(len(sizes), device=sizes.device).repeat_interleave(sizes, output_size=total)
    start = sizes.cumsum(0) - sizes
    return run, torch.arange(total, device=sizes.device).sub_(start.index_select(0, run))
