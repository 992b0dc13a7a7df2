"""Thousands of ground truths in a large image: memory goes with the candidates, not with all pairs."""

import pytest
import torch
from mmengine.structures import InstanceData

from densehead.models.assigners import (
    ATSSAssigner,
    DynamicSoftLabelAssigner,
    FCOSAssigner,
    MaxIoUAssigner,
    SimOTAAssigner,
    TaskAlignedAssigner,
)
from densehead.models.priors import AnchorGenerator, MlvlPointGenerator
from densehead.structures import Targets
from tests.memory import PeakMemory, needs_peak_memory
from tests.models.assigners.scenes import predictions

pytestmark = needs_peak_memory

STRIDES = (8, 16, 32, 64, 128)
SIZES = [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)]  # 800 x 1344 pixels, 22,400 priors
ANCHORS = AnchorGenerator(STRIDES, [1.0], octave_base_scale=8, scales_per_octave=1)
POINTS = MlvlPointGenerator(STRIDES)


def crowd(count: int) -> Targets:
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(count, 2, generator=generator) * torch.tensor([1344.0, 800.0])
    half = torch.exp(torch.rand(count, 2, generator=generator) * 4) + 4
    boxes = torch.cat([centre - half, centre + half], -1)
    return Targets.from_instances([InstanceData(bboxes=boxes, labels=torch.zeros(count, dtype=torch.long))])


all_assigners = pytest.mark.parametrize(
    ("assigner", "generator"),
    [
        (ATSSAssigner(9), ANCHORS),
        (FCOSAssigner(), POINTS),
        (FCOSAssigner(center_sampling=True), POINTS),
        (FCOSAssigner([(-1, 1e8)] * 5), POINTS),
        (MaxIoUAssigner(0.5, 0.4), ANCHORS),
        (MaxIoUAssigner(0.1, 0.1), ANCHORS),
        (SimOTAAssigner(), POINTS),
        (DynamicSoftLabelAssigner(), POINTS),
        (TaskAlignedAssigner(13), ANCHORS),
    ],
    ids=[
        *["atss", "fcos", "fcos_center", "fcos_any_range", "max_iou", "max_iou_low"],
        *["sim_ota", "soft_label", "task_aligned"],
    ],
)


def peak(assigner, generator, count: int) -> float:
    """Return 10^6 bytes."""
    priors, targets = generator.priors(SIZES), crowd(count)
    of_80_classes = predictions(priors, targets, classes=80)
    with PeakMemory() as memory:
        assignment = assigner(priors, targets, of_80_classes)
    assert assignment.num_pos.item() > count / 2
    return memory.peak / 1e6


@all_assigners
def test_a_thousand_ground_truths(assigner, generator):
    assert peak(assigner, generator, 1000) < 50


@pytest.mark.slow
@all_assigners
def test_five_thousand_ground_truths(assigner, generator):
    """What docs/reliability.md says."""
    assert peak(assigner, generator, 5000) < 60


def test_the_count_is_right():
    with PeakMemory() as memory:
        first = torch.zeros(1000, 1000)
        second = first + 1
        del first
        third = second * 2
        del second, third
    assert memory.peak == 8_000_000
    assert memory.live == 0
