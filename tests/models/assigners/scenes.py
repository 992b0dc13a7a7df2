"""Random scenes for assigners: priors of several levels, and truth of every kind."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from mmengine.structures import InstanceData

from densehead.models.priors import AnchorGenerator, MlvlPointGenerator
from densehead.structures import Priors, Targets

STRIDES = (8, 16, 32)
SIZES = ((12, 16), (6, 8), (3, 4))  # 96 x 128 pixels


def point_priors() -> Priors:
    return MlvlPointGenerator(STRIDES).priors(SIZES)


def anchor_generator(ratios=(1.0,), scales=(4.0,), **kwargs) -> AnchorGenerator:
    return AnchorGenerator(STRIDES, ratios=ratios, scales=scales, **kwargs)


def without_grids(priors: Priors) -> Priors:
    """The same priors, of which nobody knows that they lie on grids: assigners take their dense path."""
    return Ungridded(**{name: getattr(priors, name) for name in priors.__dataclass_fields__})


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
