"""Random scenes for assigners: priors of several levels, and truth of every kind."""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from densehead.models.priors import AnchorGenerator, MlvlPointGenerator
from densehead.structures import Predictions, Priors, Targets

STRIDES = (8, 16, 32)
SIZES = ((12, 16), (6, 8), (3, 4))  # 96 x 128 pixels


def point_priors() -> Priors:
    return MlvlPointGenerator(STRIDES).priors(SIZES)


def anchor_generator(ratios=(1.0,), scales=(4.0,), **kwargs) -> AnchorGenerator:
    return AnchorGenerator(STRIDES, ratios=ratios, scales=scales, **kwargs)


def without_grids(priors: Priors) -> Priors:
    """The same priors, of which nobody knows that they lie on grids: assigners take their dense path."""
    return Ungridded(**{field.name: getattr(priors, field.name) for field in fields(priors) if field.init})


@dataclass(frozen=True)
class Ungridded(Priors):
    """Priors that keep their validity but not their grids."""

    def __post_init__(self):
        object.__setattr__(self, "_mask", Priors.valid_mask(self))
        object.__setattr__(self, "grids", ())

    def valid_mask(self):
        return self._mask


def random_truth(seed: int, images: int = 2, most: int = 12, *, height=96, width=128, ignored: int = 0) -> Targets:
    """Boxes tiny and huge, inside and reaching out of the image, some of them twice; the first image may be empty."""
    generator = torch.Generator().manual_seed(seed)

    def boxes(count: int) -> torch.Tensor:
        centre = torch.rand(count, 2, generator=generator) * torch.tensor([width * 1.2, height * 1.2]) - 10
        size = torch.exp(torch.rand(count, 2, generator=generator) * 4.5) + 0.5
        made = torch.cat([centre - size / 2, centre + size / 2], -1)
        if seed % 3 == 0:
            made = made.round()  # ties
        return torch.cat([made[: count - count // 4], made[: count // 4]])

    counts = torch.randint(0 if seed % 2 else 1, most + 1, (images,), generator=generator).tolist()
    truth = [
        InstanceData(bboxes=boxes(count), labels=torch.randint(0, 5, (count,), generator=generator)) for count in counts
    ]
    return Targets.from_instances(truth, [InstanceData(bboxes=boxes(ignored)) for _ in counts])


def restricted(generator, priors: Priors, shapes, border: float = -1) -> Priors:
    """Leave out what lies beyond (height, width) of each image."""
    return priors.restricted(generator.valid_ranges(SIZES, shapes, "cpu", shapes, border))


def raw_predictions(priors: Priors, targets: Targets, seed: int = 0, classes: int = 5) -> tuple[Tensor, Tensor]:
    """Boxes (B, P, 4) and logits (B, P, classes): some far from any truth, some close to one, up to all of it."""
    generator = torch.Generator().manual_seed(seed)
    shape = (targets.num_images, len(priors))
    reach = torch.exp(torch.randn(*shape, 4, generator=generator) * 0.7) * priors.strides[:, None] * 2
    boxes = torch.cat([priors.points - reach[..., :2], priors.points + reach[..., 2:]], -1)
    logits = torch.randn(*shape, classes, generator=generator) * 2 - 2
    if targets.max_count:
        image = torch.arange(shape[0])[:, None]
        truth = torch.randint(0, targets.max_count, shape, generator=generator)
        near = targets.boxes[image, truth] + torch.randn(*shape, 4, generator=generator) * 3
        is_near = (torch.rand(shape, generator=generator) < 0.5) & targets.is_valid[image, truth]
        boxes = near.where(is_near[..., None], boxes)
        own = torch.nn.functional.one_hot(targets.labels[image, truth], classes)
        logits = logits + own * is_near[..., None] * 4 * torch.rand(*shape, 1, generator=generator)
    return boxes, logits


def predictions(priors: Priors, targets: Targets, seed: int = 0, classes: int = 5) -> Predictions:
    boxes, logits = raw_predictions(priors, targets, seed, classes)
    return Predictions.of_flat(boxes, logits=logits)
