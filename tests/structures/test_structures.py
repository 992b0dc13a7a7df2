import copy

import pytest
import torch
from mmengine.structures import InstanceData

from densehead.structures import (
    IGNORED,
    NEGATIVE,
    Assignment,
    DetDataSample,
    LevelTensor,
    Predictions,
    Priors,
    Targets,
)


def instances(boxes, labels):
    return InstanceData(bboxes=torch.tensor(boxes).float().reshape(-1, 4), labels=torch.tensor(labels).long())


@pytest.mark.parametrize("base", [1, 3])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_level_tensor_reads_in_prior_order(base, memory_format):
    maps = [torch.randn(2, base * 4, h, w).to(memory_format=memory_format) for h, w in ((5, 6), (3, 2), (1, 1))]
    tensor = LevelTensor(maps, base)
    flat = torch.cat([level.permute(0, 2, 3, 1).reshape(2, -1, 4) for level in maps], 1)
    assert tensor.channels == 4
    assert torch.equal(tensor.flat(), flat)
    image, prior = torch.tensor([0, 1, 1]), torch.tensor([0, flat.shape[1] - 1, 7])
    assert torch.equal(tensor.at(image, prior), flat[image, prior])


def test_channels_last_maps_are_joined_as_they_lie():
    maps = [torch.randn(2, 4, h, h).to(memory_format=torch.channels_last) for h in (5, 3)]
    assert LevelTensor(maps).joined.stride(2) == 1


def test_predictions_are_a_mapping_of_names():
    predictions = Predictions(1, cls_logits=[torch.zeros(1, 3, 2, 2)], box_deltas=[torch.zeros(1, 4, 2, 2)])
    assert list(predictions) == ["cls_logits", "box_deltas"]
    assert "quality_logits" not in predictions


def test_targets_are_padded_and_say_where():
    crowd = InstanceData(bboxes=torch.ones(1, 4))
    targets = Targets.from_instances(
        [instances([], []), instances([[0, 0, 1, 1], [2, 2, 4, 4]], [4, 1])], [None, crowd]
    )
    assert targets.boxes.shape == (2, 2, 4)
    assert targets.is_valid.tolist() == [[False, False], [True, True]]
    assert targets.labels.tolist() == [[0, 0], [4, 1]]
    assert targets.ignore_is_valid.tolist() == [[False], [True]]
    assert targets.counts == (0, 2)


def test_targets_of_a_batch_without_truth():
    targets = Targets.from_instances([instances([], []), instances([], [])])
    assert targets.boxes.shape == (2, 0, 4)
    assert targets.ignore_boxes.shape == (2, 0, 4)


@pytest.mark.parametrize(("label", "named"), [(5, "label 5"), (-1, "label -1")])
def test_a_label_outside_the_classes_is_named(label, named):
    with pytest.raises(ValueError, match=rf"image 1 .*{named}.*num_classes=5 allows 0 to 4"):
        Targets.from_instances([instances([], []), instances([[0, 0, 1, 1]], [label])], num_classes=5)


def test_shapes_that_do_not_fit_are_named():
    truth = InstanceData()
    truth.set_field(torch.zeros(2, 4), "bboxes")
    object.__setattr__(truth, "labels", torch.zeros(3))
    with pytest.raises(ValueError, match=r"image 0 .* \(2, 4\) and \(3,\)"):
        Targets.from_instances([truth])


def test_assignment_gathers_its_positives():
    targets = Targets.from_instances([instances([[0, 0, 1, 1], [2, 2, 4, 4]], [4, 1]), instances([[5, 5, 6, 6]], [2])])
    assignment = Assignment(torch.tensor([[NEGATIVE, 1, 0], [IGNORED, NEGATIVE, 0]]), has_ignored=True)
    positives = assignment.positives(targets)
    assert positives.image_index.tolist() == [0, 0, 1]
    assert positives.prior_index.tolist() == [1, 2, 2]
    assert positives.labels.tolist() == [1, 4, 2]
    assert positives.boxes.tolist() == [[2, 2, 4, 4], [0, 0, 1, 1], [5, 5, 6, 6]]
    assert assignment.num_pos.tolist() == [2, 1]
    assert len(positives) == 3


def test_priors_without_grids_know_their_levels():
    priors = Priors.from_boxes(torch.tensor([[0.0, 0, 2, 4], [0, 0, 4, 4], [1, 1, 3, 3]]), [2, 1])
    assert priors.level_index.tolist() == [0, 0, 1]
    assert priors.points.tolist() == [[1, 2], [2, 2], [2, 2]]
    points = Priors.from_points(torch.zeros(3, 2), torch.tensor([8.0, 8, 16]))
    assert points.num_level_priors == (2, 1)


def test_data_sample_holds_instances_only():
    sample = DetDataSample(metainfo=dict(img_shape=(4, 5)))
    sample.gt_instances = instances([[0, 0, 1, 1]], [0])
    sample.pred_instances = instances([], [])
    assert set(sample.keys()) == {"gt_instances", "pred_instances"}
    assert copy.deepcopy(sample).gt_instances.labels.tolist() == [0]
    del sample.pred_instances
    assert "pred_instances" not in sample
    with pytest.raises(AssertionError):
        sample.gt_instances = [1, 2]
