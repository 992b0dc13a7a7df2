"""Losses that are not finite: which of the maps they come from, on which level, of which image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from densehead.structures import Predictions, Priors, Targets


@dataclass(frozen=True)
class LossReport:
    """What is needed to say where a loss went wrong; it stays on the device until it is read.

    Attributes:
        losses: the scalars.
        sums: of each map and level (B,) the sum of an image's numbers, which is finite unless one of them is not.
        boxes: (B,) the same of the ground truth.
        strides: of each level, pixels.
        paths: of each image, where known.
    """

    losses: dict[str, Tensor]
    sums: dict[tuple[str, int], Tensor]
    boxes: Tensor
    strides: tuple[float, ...]
    paths: tuple[str | None, ...]

    @classmethod
    @torch.no_grad()
    def of(
        cls,
        losses: dict[str, Tensor],
        predictions: Predictions,
        targets: Targets,
        strides: tuple[float, ...],
        metas: list[dict],
    ) -> LossReport:
        """Look at a batch, without waiting for a GPU; arguments as of :func:`check_losses`."""
        sums = {
            (name, number): level.flatten(1).sum(1, dtype=torch.float32)
            for name, tensor in predictions.items()
            for number, level in enumerate(tensor.maps)
        }
        losses = {name: value.detach() for name, value in losses.items()}
        paths = tuple(meta.get("img_path") for meta in metas)
        return cls(losses, sums, targets.boxes.flatten(1).sum(1), strides, paths)

    def fault(self) -> str | None:
        """Return what is not finite, or None where all losses are; a GPU is waited for."""
        if torch.stack(list(self.losses.values())).isfinite().all():
            return None
        bad = ", ".join(f"{name} is {value.item()}" for name, value in self.losses.items() if not value.isfinite())
        places = [
            f"{name} of level {level} (stride {self.strides[level]:g}) of {self._images(sums)}"
            for (name, level), sums in self.sums.items()
            if not sums.isfinite().all()
        ]
        if not self.boxes.isfinite().all():
            places.append(f"a ground-truth box of {self._images(self.boxes)}")
        if places:
            return f"{bad}. Not finite: {'; '.join(places)}"
        return f"{bad}, though the maps that it was computed from and the ground truth are finite"

    def _images(self, sums: Tensor) -> str:
        numbers = (~sums.isfinite()).nonzero()[:, 0].tolist()
        named = [f"{number} ({self.paths[number]})" if self.paths[number] else f"{number}" for number in numbers]
        return f"image {', '.join(named)} of the batch"


def check_losses(
    losses: dict[str, Tensor], predictions: Predictions, targets: Targets, priors: Priors, metas: list[dict]
) -> LossReport | None:
    """Raise where a loss on the host is not finite; return a report of losses on a GPU, which would have to wait, and
    of those being compiled.

    Args:
        losses: scalars.
        predictions: the maps that they were computed from.
        targets: the truth.
        priors: for the strides of the levels.
        metas: of each image, with ``img_path`` where it has one.

    Raises:
        FloatingPointError: names the losses and, of the maps that are not finite, name, level and image.
    """
    values = list(losses.values())
    # a compiler has no values yet either, only what will compute them
    can_look = bool(values) and values[0].device.type == "cpu" and not torch.compiler.is_compiling()
    if not values or (can_look and all(value.isfinite() for value in values)):
        return None
    strides = tuple(
        max(grid.stride_x, grid.stride_y) for grid in priors.grids[:: len(priors.grids) // priors.num_levels]
    )
    report = LossReport.of(losses, predictions, targets, strides, metas)
    if can_look:
        raise FloatingPointError(report.fault())
    return report
