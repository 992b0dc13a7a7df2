"""Losses of an image with thousands of objects: memory goes with objects and candidates, not with pairs of objects."""

import pytest
import torch

from tests.memory import PeakMemory, needs_peak_memory
from tests.models.heads.heads import CONFIGS, build, features, samples, total

pytestmark = needs_peak_memory


def peak(name: str, count: int) -> float:
    """Return 10^6 bytes that losses and gradients take."""
    head, feats, batch = build(name), features(1), samples([count])
    with PeakMemory() as memory:
        loss = total(head.loss(feats, batch))
        loss.backward()
    assert loss.isfinite()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())
    return memory.peak / 1e6


@pytest.mark.parametrize("name", CONFIGS)
def test_five_thousand_objects_on_a_small_image(name):
    """Five times as many objects may take five times the memory; pairs of objects would take twenty-five times."""
    thousand, five_thousand = peak(name, 1000), peak(name, 5000)
    assert five_thousand < 100
    assert five_thousand < 7 * thousand


def test_the_same_object_many_times():
    """Four hundred objects of one class, each the whole image, share all 252 points with each other."""
    head, feats, batch = build("AutoAssignHead"), features(1), samples([400])
    batch[0].gt_instances.bboxes[:] = torch.tensor([0.0, 0.0, 128.0, 96.0])
    batch[0].gt_instances.labels[:] = 0
    with PeakMemory() as memory:
        total(head.loss(feats, batch)).backward()
    assert memory.peak < 40e6, memory.peak
