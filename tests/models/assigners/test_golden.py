"""The assigners, asked for one image as mmdetection asks, give mmdetection's assignment."""

import pytest
import torch
from mmengine.structures import InstanceData

from densehead.registry import TASK_UTILS
from densehead.structures import NEGATIVE, Targets
from tests import golden

NAMES = [name for name in golden.cases("assigner_") if "ATSS" in name or "MaxIoU" in name]
GENERATOR = dict(
    type="AnchorGenerator", ratios=[1.0], octave_base_scale=8, scales_per_octave=1, strides=[8, 16, 32, 64, 128]
)


def call_for_one_image(meta, arrays):
    assigner = TASK_UTILS.build(dict(type=meta["type"], **meta["cfg"]))
    return assigner.assign(
        InstanceData(priors=arrays["priors"]),
        gt_instances=InstanceData(bboxes=arrays["gt_bboxes"], labels=arrays["gt_labels"]),
        num_level_priors=meta["num_level_priors"],
    )


@pytest.mark.parametrize("name", NAMES)
def test_one_image(name):
    meta, arrays = golden.load(name)
    result = call_for_one_image(meta, arrays)
    assert torch.equal(result.gt_inds, arrays["gt_inds"])
    assert torch.equal(result.labels, arrays["labels"])
    torch.testing.assert_close(result.max_overlaps, arrays["max_overlaps"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_batch_on_grids(name):
    """The closed forms, in a batch with an image without truth before it."""
    meta, arrays = golden.load(name)
    priors = TASK_UTILS.build(GENERATOR).priors([(20, 24), (10, 12), (5, 6), (3, 3), (2, 2)])
    assert torch.equal(priors.boxes, arrays["priors"])
    assigner = TASK_UTILS.build(dict(type=meta["type"], **meta["cfg"]))
    empty = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    truth = InstanceData(bboxes=arrays["gt_bboxes"], labels=arrays["gt_labels"])

    assignment = assigner(priors, Targets.from_instances([empty, truth]))

    assert (assignment.gt_index[0] == NEGATIVE).all()
    gt_inds = (assignment.gt_index[1] + 1).clamp(min=-1)
    assert torch.equal(gt_inds, arrays["gt_inds"])
