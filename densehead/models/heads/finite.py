"""Losses that are not finite: which of the maps they come from, on which level, of which image."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from densehead.compat import is_compiling
from densehead.structures import LevelTensor, Priors, Targets

MOST_PLACES = 4  # are named in a message
_mode: str | None = None


class LossNotFinite(FloatingPointError):
    """A loss is not finite; the message says which, and where it comes from.

    Attributes:
        report: what the loss was computed from.
    """

    def __init__(self, report: LossReport) -> None:
        super().__init__(report.fault())
        self.report = report


@contextmanager
def looking(mode: str | None) -> Iterator[None]:
    """Say when losses are looked at inside the ``with``.

    Args:
        mode: ``'always'``, also where a GPU must be waited for; ``'never'``; None as usual, where it costs nothing.
    """
    global _mode
    before, _mode = _mode, mode
    try:
        yield
    finally:
        _mode = before


@dataclass(frozen=True)
class LossReport:
    """What losses were computed from; it stays on the device until it is read.

    Attributes:
        losses: the scalars.
        maps: of each quantity its levels, (B, A * c, h, w) each.
        boxes: (B, G, 4) the ground truth.
        strides: of each level, pixels.
        paths: of each image, where known.
    """

    losses: dict[str, Tensor]
    maps: dict[str, tuple[Tensor, ...]]
    boxes: Tensor
    strides: tuple[float, ...]
    paths: tuple[str | None, ...]
    _verdict: Verdict = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_verdict", Verdict(torch.stack(list(self.losses.values())).isfinite().all()))

    @classmethod
    def of(
        cls,
        losses: dict[str, Tensor],
        predictions: Mapping[str, LevelTensor],
        targets: Targets,
        strides: tuple[float, ...],
        metas: list[dict],
    ) -> LossReport:
        """Keep a batch, without waiting for a GPU; arguments as of :func:`check_losses`."""
        losses = {name: value.detach() for name, value in losses.items()}
        maps = {name: tuple(level.detach() for level in tensor.maps) for name, tensor in predictions.items()}
        return cls(losses, maps, targets.boxes, strides, tuple(meta.get("img_path") for meta in metas))

    def joined(self, other: LossReport) -> LossReport:
        """Return a report of the losses of both, of the same images."""
        return LossReport(self.losses | other.losses, self.maps | other.maps, self.boxes, self.strides, self.paths)

    def is_finite(self) -> bool:
        """Tell whether all losses are finite. A GPU is waited for, but only until it has computed them."""
        return bool(self._verdict)

    def broken(self) -> dict[str, float]:
        """Return the losses that are not finite."""
        return {name: value.item() for name, value in self.losses.items() if not value.isfinite()}

    def fault(self) -> str | None:
        """Return what is not finite, or None where all losses are."""
        if self.is_finite():
            return None
        bad = ", ".join(f"{name} is {value}" for name, value in self.broken().items())
        places = [
            f"{name} of level {level} (stride {self.strides[level]:g}) of {self._images(values)}"
            for name, levels in self.maps.items()
            for level, values in enumerate(levels)
            if not values.isfinite().all()
        ]
        if not self.boxes.isfinite().all():
            places.append(f"a ground-truth box of {self._images(self.boxes)}")
        if len(places) > MOST_PLACES:
            places[MOST_PLACES:] = [f"{len(places) - MOST_PLACES} more"]
        if places:
            return f"{bad}. Not finite: {'; '.join(places)}"
        return f"{bad}, though the maps that it was computed from and the ground truth are finite"

    def _images(self, values: Tensor) -> str:
        numbers = (~values.isfinite()).flatten(1).any(1).nonzero()[:, 0].tolist()
        named = [f"{number} ({self.paths[number]})" if self.paths[number] else f"{number}" for number in numbers]
        return f"image {', '.join(named)} of the batch"


class Verdict:
    """A boolean on its way from a GPU, which is waited for no longer than until it is computed.

    Args:
        value: 0-d bool.
    """

    def __init__(self, value: Tensor) -> None:
        self._event = None
        if value.is_cuda and torch.cuda.is_available() and not is_compiling():
            host = torch.empty((), dtype=torch.bool, pin_memory=True)
            value = host.copy_(value, non_blocking=True)
            self._event = torch.cuda.Event()
            self._event.record()
        self._value = value

    def __bool__(self) -> bool:
        if self._event is not None:
            self._event.synchronize()
        return bool(self._value)


def _is_on_host(value: Tensor) -> bool:
    return value.device.type == "cpu"


def check_losses(
    losses: dict[str, Tensor],
    predictions: Mapping[str, LevelTensor],
    targets: Targets,
    priors: Priors,
    metas: list[dict],
    *,
    keep: bool = False,
) -> LossReport | None:
    """Raise where a loss on the host is not finite; do not wait for losses on a GPU, nor for those being compiled.

    Args:
        losses: scalars.
        predictions: the maps that they were computed from.
        targets: the truth.
        priors: for the strides of the levels.
        metas: of each image, with ``img_path`` where it has one.
        keep: return a report of losses that are not looked at.

    Raises:
        LossNotFinite: names the losses and, of the maps that are not finite, name, level and image.
    """
    values = list(losses.values())
    if not values or _mode == "never":
        return None
    # a compiler has no values yet either, only what will compute them
    can_look = (_mode == "always" or _is_on_host(values[0])) and not is_compiling()
    if not (can_look or keep) or (can_look and all(value.isfinite() for value in values)):
        return None
    strides = tuple(
        max(grid.stride_x, grid.stride_y) for grid in priors.grids[:: len(priors.grids) // priors.num_levels]
    )
    report = LossReport.of(losses, predictions, targets, strides, metas)
    if can_look:
        raise LossNotFinite(report)
    return report
