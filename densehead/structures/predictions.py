"""``Predictions``: the level maps of a head, as they lie in memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property

import torch
from torch import Tensor

from densehead.structures.assignment import Positives


class LevelTensor:
    """The maps of one quantity over all levels: ``(B, A * c, h, w)`` each, never permuted.

    Prior ``p`` (level by level, row by row, base prior by base prior) reads channel ``a * c + channel`` at place
    ``p // A`` with ``a = p % A``. Reading them so costs one concatenation instead of a transposition of every map.

    Args:
        maps: one ``(B, A * c, h, w)`` a level.
        num_base_priors: ``A``, the same on every level.
    """

    def __init__(self, maps: Sequence[Tensor], num_base_priors: int = 1) -> None:
        self.maps = tuple(maps)
        self.num_base_priors = num_base_priors

    @property
    def channels(self) -> int:
        """``c``, the numbers that a prior has."""
        return self.maps[0].shape[1] // self.num_base_priors

    @cached_property
    def joined(self) -> Tensor:
        """(B, A, c, S): the levels one after the other, ``S`` places; channels-last memory where the maps have it."""
        batch = self.maps[0].shape[0]
        if all(_is_channels_last(level) for level in self.maps):
            rows = torch.cat([level.permute(0, 2, 3, 1).flatten(1, 2) for level in self.maps], 1)
            joined = rows.transpose(1, 2)
        else:
            joined = torch.cat([level.flatten(2) for level in self.maps], 2)
        return joined.unflatten(1, (self.num_base_priors, self.channels)) if batch else joined

    def at(self, image_index: Tensor, prior_index: Tensor) -> Tensor:
        """Return (N, c): the numbers of priors of images."""
        base = prior_index % self.num_base_priors
        place = prior_index // self.num_base_priors
        return self.joined[image_index, base, :, place]

    def flat(self) -> Tensor:
        """Return a copy in prior order, (B, P, c), for the rule that truly needs all of it."""
        return self.joined.permute(0, 3, 1, 2).flatten(1, 2)


def _is_channels_last(level: Tensor) -> bool:
    return level.is_contiguous(memory_format=torch.channels_last) and not level.is_contiguous()


class Predictions(Mapping):
    """What a head put out for a batch: named :class:`LevelTensor` s, read by every loss and rule in the same way.

    Heads name them ``cls_logits`` (C a prior), ``box_deltas`` or ``box_logits``, ``quality_logits``.
    """

    def __init__(self, num_base_priors: int = 1, **maps: Sequence[Tensor]) -> None:
        self._tensors = {name: LevelTensor(levels, num_base_priors) for name, levels in maps.items()}

    def __getitem__(self, name: str) -> LevelTensor:
        return self._tensors[name]

    def __iter__(self):
        return iter(self._tensors)

    def __len__(self) -> int:
        return len(self._tensors)

    def gather(self, name: str, positives: Positives) -> Tensor:
        """Return (N, c): what the head said at the positives."""
        return self[name].at(positives.image_index, positives.prior_index)
