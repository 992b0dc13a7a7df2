import copy

import pytest
import torch
from mmengine.structures import InstanceData

from densehead.models.priors import AnchorGenerator, MlvlPointGenerator
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


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("base", [1, 3])
def test_gradients_of_what_is_read_stand_where_it_was_read(base, memory_format):
    sizes = ((5, 6), (3, 2), (1, 1))
    maps = [torch.randn(2, base * 4, *size).to(memory_format=memory_format).requires_grad_() for size in sizes]
    image, prior = torch.tensor([[0, 1, 1], [1, 0, 0]]), torch.tensor([[0, 7, 7], [36 * base, 36 * base, 30 * base]])
    factor = torch.randn(2, 3, 4)
    found = torch.autograd.grad((LevelTensor(maps, base).at(image, prior) ** 2 * factor).sum(), maps)
    flat = torch.cat([level.permute(0, 2, 3, 1).reshape(2, -1, 4) for level in maps], 1)
    expected = torch.autograd.grad((flat[image, prior] ** 2 * factor).sum(), maps)
    torch.testing.assert_close(found, expected)  # prior 7 of image 1 was read twice
    assert all(one.stride() == level.stride() for one, level in zip(found, maps, strict=True))


def test_what_is_read_can_be_differentiated_twice():
    maps = [torch.randn(1, 4, h, h, dtype=torch.float64).requires_grad_() for h in (3, 2)]
    image, prior = torch.tensor([0, 0, 0]), torch.tensor([2, 11, 2])
    assert torch.autograd.gradgradcheck(lambda *maps: LevelTensor(maps).at(image, prior) ** 3, maps)


def test_quantities_are_asked_for_the_same_priors_once(monkeypatch):
    from densehead.structures import level_tensor

    calls = []
    find = level_tensor._find
    monkeypatch.setattr(level_tensor, "_find", lambda *args: calls.append(0) or find(*args))
    sizes = (2, 2), (1, 1)
    maps = {
        name: [torch.zeros(1, channels, *size).requires_grad_() for size in sizes]
        for name, channels in (("cls_logits", 3), ("box_deltas", 4))
    }
    predictions = Predictions(1, **maps)
    image, prior = torch.tensor([0]), torch.tensor([4])
    predictions["cls_logits"].at(image, prior), predictions["box_deltas"].at(image, prior)
    assert len(calls) == 1
    predictions["box_deltas"].at(image, torch.tensor([3]))
    assert len(calls) == 2


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


def test_level_tensor_first_asked_without_gradients_still_has_them():
    """An assigner reads the maps under no_grad, before the losses do."""
    maps = [torch.randn(1, 4, 2, 2, requires_grad=True)]
    tensor = LevelTensor(maps)
    with torch.no_grad():
        tensor.at(torch.tensor([0]), torch.tensor([1]))
    tensor.at(torch.tensor([0]), torch.tensor([1])).sum().backward()
    assert maps[0].grad.count_nonzero() == 4


def test_predictions_in_every_form_say_the_same_scores():
    logits = torch.randn(2, 2 * 3, 4, 5)
    sigmoid = Predictions(2, cls_logits=[logits])
    image, prior = torch.tensor([[0, 1], [1, 0]]), torch.tensor([[3, 39], [0, 17]])
    flat = sigmoid["cls_logits"].flat()
    of_scores = Predictions.of_flat(None, scores=flat.sigmoid())
    of_logits = Predictions.of_flat(None, logits=flat)
    assert torch.equal(sigmoid.logits(), flat.transpose(1, 2))
    for predictions in (sigmoid, of_scores, of_logits):
        assert predictions.num_classes == 3
        torch.testing.assert_close(predictions.scores(), flat.sigmoid().transpose(1, 2))
        torch.testing.assert_close(predictions.logits(), flat.transpose(1, 2), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(predictions.scores_at(image, prior), flat.sigmoid()[image, prior])
        torch.testing.assert_close(predictions.logits_at(image, prior), flat[image, prior], rtol=1e-4, atol=1e-4)


def test_a_softmax_has_the_background_last():
    logits = torch.randn(1, 4, 2, 2)
    predictions = Predictions(class_form="softmax", cls_logits=[logits])
    image, prior = torch.tensor([0]), torch.tensor([2])
    expected = logits[0, :, 1, 0].softmax(0)[:3]
    assert predictions.num_classes == 3
    torch.testing.assert_close(predictions.scores_at(image, prior)[0], expected)
    torch.testing.assert_close(predictions.logits_at(image, prior)[0], expected.logit())
    torch.testing.assert_close(predictions.scores()[0, :, 2], expected)


def test_boxes_are_read_by_whoever_made_the_predictions():
    boxes = torch.rand(2, 5, 4)
    image, prior = torch.tensor([1]), torch.tensor([4])
    assert torch.equal(Predictions.of_flat(boxes).boxes_at(image, prior), boxes[1, 4][None])
    with pytest.raises(ValueError, match=r"hold no boxes"):
        Predictions.of_flat(None, scores=torch.rand(2, 5, 3)).boxes_at(image, prior)


def test_points_may_stand_as_squares():
    priors = MlvlPointGenerator([8, 16]).priors([(3, 4), (2, 2)])
    squares = priors.as_squares(4)
    assert priors.are_points
    assert not squares.are_points
    assert torch.equal(squares.points, priors.points)
    torch.testing.assert_close(squares.boxes[:, 2:] - squares.boxes[:, :2], 4 * priors.strides[:, None].expand(-1, 2))
    torch.testing.assert_close((squares.boxes[:, 2:] + squares.boxes[:, :2]) / 2, priors.points)
    assert [grid.box_height for grid in squares.grids] == [32, 64]
    assert priors.as_squares(4) is squares
    assert priors.as_squares(5) is not squares


@pytest.mark.parametrize("counts", [(3, 1), (0, 0)])
def test_objects_that_nobody_answers_for(counts):
    targets = Targets.from_instances([instances([[0, 0, 9, 9]] * n, [0] * n) for n in counts])
    index = torch.tensor([[1, NEGATIVE, 1], [NEGATIVE, IGNORED, NEGATIVE]]).clamp(max=counts[0] - 1)
    assert Assignment(index).num_missed(targets).tolist() == ([2, 1] if counts[0] else [0, 0])


def test_patches_hold_neighbours():
    """A level of 10 x 19 cells with two priors each has 2 x 3 patches a base prior; one of 3 x 4 cells has one."""
    generator = AnchorGenerator(strides=[8, 16], ratios=[0.5, 1.0], scales=[4.0])
    priors = generator.priors([(10, 19), (3, 4)], "cpu")
    patches = priors.patches
    assert patches.shape == (2 * (6 + 1), 64)
    assert patches[patches < len(priors)].sort().values.tolist() == list(range(len(priors)))
    for patch in patches:
        mine = patch[patch < len(priors)]
        assert priors.level_index[mine].unique().numel() == 1
        points, stride = priors.points[mine], priors.strides[mine[0]]
        assert ((points.amax(0) - points.amin(0)) < 8 * stride).all()
        assert (mine % 2).unique().numel() == 1  # the base prior


def test_patches_of_priors_on_no_grid():
    patches = Priors.from_boxes(torch.rand(70, 4)).patches
    assert patches.flatten().tolist() == [*range(70), *[70] * 58]
