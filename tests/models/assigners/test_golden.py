"""The assigners, asked for one image as mmdetection asks, give mmdetection's assignment."""

import pytest
import torch
from mmengine.structures import InstanceData

from densehead.registry import TASK_UTILS
from densehead.structures import NEGATIVE, Predictions, Targets
from tests import golden

NAMES = golden.cases("assigner_")
STRIDES = [8, 16, 32, 64, 128]
ANCHORS = dict(type="AnchorGenerator", ratios=[1.0], octave_base_scale=8, scales_per_octave=1, strides=STRIDES)
POINTS = dict(type="MlvlPointGenerator", offset=0, strides=STRIDES)


def call_for_one_image(meta, arrays):
    assigner = TASK_UTILS.build(dict(type=meta["type"], **meta["cfg"]))
    return assigner.assign(
        InstanceData(priors=arrays["priors"], bboxes=arrays["pred_bboxes"], scores=arrays["pred_scores"]),
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
    if "assign_metrics" in arrays:
        torch.testing.assert_close(result.assign_metrics, arrays["assign_metrics"], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_batch_on_grids(name):
    """The closed forms, in a batch with an image without truth before it."""
    meta, arrays = golden.load(name)
    has_points = (arrays["priors"][0] == torch.tensor([0, 0, 8, 8])).all()
    generator = TASK_UTILS.build(POINTS if has_points else ANCHORS)
    sizes = [(20, 24), (10, 12), (5, 6), (3, 3), (2, 2)]
    assert torch.equal(torch.cat(generator.grid_priors(sizes, device="cpu", with_stride=True)), arrays["priors"])
    assigner = TASK_UTILS.build(dict(type=meta["type"], **meta["cfg"]))
    empty = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    truth = InstanceData(bboxes=arrays["gt_bboxes"], labels=arrays["gt_labels"])
    classes = {getattr(assigner, "class_form", "scores"): arrays["pred_scores"].expand(2, -1, -1)}
    predictions = Predictions.of_flat(arrays["pred_bboxes"].expand(2, -1, -1), **classes)

    assignment = assigner(generator.priors(sizes), Targets.from_instances([empty, truth]), predictions)

    assert (assignment.gt_index[0] == NEGATIVE).all()
    gt_inds = (assignment.gt_index[1] + 1).clamp(min=-1)
    assert torch.equal(gt_inds, arrays["gt_inds"])
