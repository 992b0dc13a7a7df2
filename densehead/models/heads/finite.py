"""The error of a loss that is not finite: it says where the numbers went wrong."""

from __future__ import annotations

import torch
from torch import Tensor

from densehead.structures import Predictions, Priors, Targets


def check_losses(
    losses: dict[str, Tensor], predictions: Predictions, targets: Targets, priors: Priors, metas: list[dict]
) -> None:
    """Raise where a loss is not finite; on a GPU nothing is looked at, since that would stall it.

    Args:
        losses: scalars.
        predictions: the maps that they were computed from.
        targets: the truth.
        priors: for the levels' strides.
        metas: of each image, with ``img_path`` where it has one.

    Raises:
        FloatingPointError: names the losses and, of the maps that are not finite, name, level and image.
    """
    values = list(losses.values())
    if not values or values[0].device.type != "cpu" or all(value.isfinite() for value in values):
        return
    raise FloatingPointError(explain(losses, predictions, targets, priors, metas))


@torch.no_grad()
def explain(
    losses: dict[str, Tensor], predictions: Predictions, targets: Targets, priors: Priors, metas: list[dict]
) -> str:
    """Return what is not finite; arguments as of :func:`check_losses`."""
    bad = ", ".join(f"{name} is {value.item()}" for name, value in losses.items() if not value.isfinite())
    places = [*_in_maps(predictions, priors, metas), *_in_truth(targets, metas)]
    if places:
        return f"{bad}. Not finite: {'; '.join(places)}"
    largest = {name: max(level.abs().max().item() for level in tensor.maps) for name, tensor in predictions.items()}
    sizes = ", ".join(f"{name} {value:.3g}" for name, value in largest.items())
    return f"{bad}, though all maps and boxes are finite; the largest absolute values of the maps are {sizes}"


def _in_maps(predictions: Predictions, priors: Priors, metas: list[dict]) -> list[str]:
    strides = [level[0].item() for level in priors.strides.split(priors.num_level_priors) if len(level)]
    found = []
    for name, tensor in predictions.items():
        for number, level in enumerate(tensor.maps):
            count = (~level.isfinite()).flatten(1).sum(1)
            for image in count.nonzero()[:, 0].tolist():
                found.append(
                    f"{name} of level {number} (stride {strides[number]:g}) of {_image(image, metas)}, "
                    f"{count[image].item()} of {level[image].numel()} numbers"
                )
    return found


def _in_truth(targets: Targets, metas: list[dict]) -> list[str]:
    is_bad = ~targets.boxes.isfinite().flatten(1).all(1)
    return [f"a ground-truth box of {_image(image, metas)}" for image in is_bad.nonzero()[:, 0].tolist()]


def _image(image: int, metas: list[dict]) -> str:
    path = metas[image].get("img_path") if image < len(metas) else None
    return f"image {image} of the batch" + (f" ({path})" if path else "")
