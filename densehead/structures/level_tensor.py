"""``LevelTensor``: one quantity of a head on all levels, read where it lies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from densehead.compat import is_compiling
from densehead.structures.lazy import lazy

FEW = 8  # channels of maps that are joined sooner than a prior's level is found


@dataclass(frozen=True)
class Share:
    """Which of ``N`` priors stand in one piece of a quantity, and where in it.

    Attributes:
        which: (n,) their numbers among the ``N``, or a slice of them; None where the piece is the only one and has all.
        image, base, place: (n,) where they stand in the piece (B, A, c, S).
    """

    which: Tensor | slice | None
    image: Tensor
    base: Tensor
    place: Tensor

    def of(self, values: Tensor) -> Tensor:
        """Return those (n, ...) of values (N, ...) that belong to the piece."""
        if isinstance(self.which, Tensor):
            return values.index_select(0, self.which)
        return values if self.which is None else values[self.which]


class Places:
    """Where priors stand in the pieces; remembers the last answer, for all quantities are asked for the same priors."""

    def __init__(self) -> None:
        self._last: tuple[tuple, list[Share]] = ((), [])

    def shares(self, image: Tensor, prior: Tensor, num_base_priors: int, sizes: tuple[int, ...]) -> list[Share]:
        """Return the share of each piece, of ``sizes`` places each, of priors (N,) of images (N,)."""
        question = (image, prior, num_base_priors, sizes)
        known, shares = self._last
        if len(known) != 4 or known[0] is not image or known[1] is not prior or known[2:] != question[2:]:
            shares = _find(*question)
            self._last = question, shares
        return shares


def _find(image: Tensor, prior: Tensor, num_base_priors: int, sizes: tuple[int, ...]) -> list[Share]:
    place, base = prior // num_base_priors, prior % num_base_priors
    if len(sizes) == 1:
        return [Share(None, image, base, place)]
    shares, start = [], 0
    for size in sizes:
        (which,) = ((place >= start) & (place < start + size)).nonzero(as_tuple=True)
        image_of, base_of, place_of = (one.index_select(0, which) for one in (image, base, place))
        shares.append(Share(which, image_of, base_of, place_of - start))
        start += size
    return shares


class LevelTensor:
    """The maps of one quantity over all levels: ``(B, A * c, h, w)`` each, never permuted.

    Prior ``p`` (level by level, row by row, base prior by base prior) reads channel ``a * c + channel`` at place
    ``p // A`` with ``a = p % A``.

    Args:
        maps: one ``(B, A * c, h, w)`` a level.
        num_base_priors: ``A``, the same on every level.
        places: shared with the other quantities of a head.
    """

    def __init__(self, maps: Sequence[Tensor], num_base_priors: int = 1, places: Places | None = None) -> None:
        self.maps = tuple(maps)
        self.num_base_priors = num_base_priors
        self._places = places or Places()
        self.memo: dict = {}  # what a loss has found out about the maps and will want again

    @classmethod
    def of_joined(cls, joined: Tensor) -> LevelTensor:
        """Wrap (B, A, c, S), all levels in one."""
        tensor = cls([joined.flatten(1, 2)[..., None]], joined.shape[1])
        tensor.__dict__["joined"] = joined
        tensor.__dict__["pieces"] = (joined,)
        return tensor

    @property
    def channels(self) -> int:
        """``c``, the numbers that a prior has."""
        return self.maps[0].shape[1] // self.num_base_priors

    @property
    def num_priors(self) -> int:
        """``P`` of all levels."""
        return self.num_base_priors * sum(level.shape[-2] * level.shape[-1] for level in self.maps)

    @lazy
    def pieces(self) -> tuple[Tensor, ...]:
        """(B, A, c, S) each, one after the other along ``S``.

        On the host they are the levels themselves: a copy of all costs as much as a loss. A GPU copies fast, but would
        have to wait to learn which priors are of which level, so there they are one.
        """
        is_device = self.maps[0].is_cuda or is_compiling()
        if len(self.maps) == 1 or is_device or not self.maps[0].shape[0]:
            return (self.joined,)
        with torch.enable_grad():
            return tuple(level.flatten(2).unflatten(1, (self.num_base_priors, self.channels)) for level in self.maps)

    @lazy
    def joined(self) -> Tensor:
        """(B, A, c, S): the levels one after the other, ``S`` places; channels-last memory where the maps have it."""
        batch = self.maps[0].shape[0]
        with torch.enable_grad():  # a rule may be the first to ask, without gradients; the losses ask next
            if all(_is_channels_last(level) for level in self.maps):
                rows = torch.cat([level.permute(0, 2, 3, 1).flatten(1, 2) for level in self.maps], 1)
                joined = rows.transpose(1, 2)
            else:
                joined = torch.cat([level.flatten(2) for level in self.maps], 2)
            return joined.unflatten(1, (self.num_base_priors, self.channels)) if batch else joined

    def shares(self, image_index: Tensor, prior_index: Tensor) -> list[Share]:
        """Return where priors (N,) of images (N,) stand in each of :attr:`pieces`."""
        sizes = tuple(piece.shape[-1] for piece in self.pieces)
        return self._places.shares(image_index, prior_index, self.num_base_priors, sizes)

    def at(self, image_index: Tensor, prior_index: Tensor) -> Tensor:
        """Return (..., c): the numbers of priors of images; both index tensors have one shape (...)."""
        is_small = self.channels * self.num_base_priors <= FEW and not self.maps[0].requires_grad
        if is_small or is_compiling():  # which finds a backward pass by itself
            return _pick(self.joined, _find(image_index, prior_index, self.num_base_priors, (0,))[0])
        if prior_index.ndim == 1:
            return _Read.apply(self.shares(image_index, prior_index), len(prior_index), *self.pieces)
        return self.at(image_index.flatten(), prior_index.flatten()).unflatten(0, prior_index.shape)

    def flat(self) -> Tensor:
        """Return a copy in prior order, (B, P, c), for the rule that truly needs all of it."""
        return self.joined.permute(0, 3, 1, 2).flatten(1, 2)


def _is_channels_last(level: Tensor) -> bool:
    return level.is_contiguous(memory_format=torch.channels_last) and not level.is_contiguous()


class _Read(torch.autograd.Function):
    """The numbers (N, c) of some priors, whose gradient is one map a level and not one of all levels and its parts."""

    @staticmethod
    def forward(ctx, shares: list[Share], count: int, *pieces: Tensor) -> Tensor:
        ctx.shares = shares
        ctx.forms = [
            (piece.shape, torch.empty_like(piece, device="meta").stride(), piece.dtype, piece.device)
            for piece in pieces
        ]
        if len(pieces) == 1:
            return _pick(pieces[0], shares[0])
        picked = pieces[0].new_empty(count, pieces[0].shape[2])
        for share, piece in zip(shares, pieces, strict=True):
            if len(share.place):
                picked[share.which] = _pick(piece, share)
        return picked

    @staticmethod
    def backward(ctx, grad: Tensor):
        return None, None, *(_spread(grad, *both) for both in zip(ctx.shares, ctx.forms, strict=True))


def _pick(piece: Tensor, share: Share) -> Tensor:
    return piece[share.image, share.base, :, share.place]


def _spread(grad: Tensor, share: Share, form: tuple) -> Tensor:
    """Return a map of zeros, lying as the piece does, but for the gradient (N, c) at the share's places."""
    shape, stride, dtype, device = form
    spread = torch.empty_strided(shape, stride, dtype=dtype, device=device).zero_()
    if not len(share.place):
        return spread
    index = [share.image, share.base, None, share.place]
    return torch.ops.aten.index_put_(spread, index, share.of(grad), True)  # a prior may be read twice
