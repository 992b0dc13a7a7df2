"""The batched rules against loops, and the closed forms against the dense path."""

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
from densehead.models.assigners import candidates as candidates_module
from densehead.models.assigners.candidates import nearest
from densehead.registry import TASK_UTILS
from densehead.structures import IGNORED, NEGATIVE, Predictions, Targets
from tests.models.assigners import naive
from tests.models.assigners.scenes import (
    anchor_generator,
    point_priors,
    random_truth,
    raw_predictions,
    restricted,
    without_grids,
)

RANGES = ((-1, 24), (24, 48), (48, 1e8))
SEEDS = range(8)
ANCHORS = {
    "one": anchor_generator(),
    "three": anchor_generator(ratios=(0.5, 1.0), scales=(2.0, 4.0)),
    "offset": anchor_generator(center_offset=0.5),
}
ASSIGNERS = {
    "fcos": FCOSAssigner(RANGES),
    "fcos_center": FCOSAssigner(RANGES, center_sampling=True),
    "atss": ATSSAssigner(topk=9),
    "atss_4": ATSSAssigner(topk=4),
    "max_iou": MaxIoUAssigner(0.5, 0.4, min_pos_iou=0.0),
    "max_iou_low": MaxIoUAssigner(0.1, 0.1, min_pos_iou=0.05),
    "max_iou_range": MaxIoUAssigner(0.6, (0.1, 0.4), match_low_quality=False),
    "max_iou_first": MaxIoUAssigner(0.5, 0.5, gt_max_assign_all=False),
    "sim_ota": SimOTAAssigner(),
    "soft_label": DynamicSoftLabelAssigner(),
    "task_aligned": TaskAlignedAssigner(13),
}


def assign(name, priors, targets):
    """What the rule says, of predictions that depend on the number of priors and the truth alone."""
    boxes, logits = raw_predictions(priors, targets)
    return ASSIGNERS[name](priors, targets, Predictions.of_flat(boxes, logits=logits))


def assert_equals_loops(assignment, reference):
    for image, row in enumerate(assignment.gt_index.tolist()):
        assert row == reference(image), f"image {image}"


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("radius", [None, 1.5, 0.7])
def test_fcos_equals_loops(seed, radius):
    priors, targets = point_priors(), random_truth(seed)
    assigner = FCOSAssigner(RANGES, center_sampling=radius is not None, center_sample_radius=radius or 1.5)
    assert_equals_loops(assigner(priors, targets), lambda image: naive.fcos(priors, targets, image, RANGES, radius))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", ANCHORS)
def test_atss_equals_loops(seed, kind):
    priors, targets = ANCHORS[kind].priors(((12, 16), (6, 8), (3, 4))), random_truth(seed)
    assert_equals_loops(ATSSAssigner(9)(priors, targets), lambda image: naive.atss(priors, targets, image, 9))


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(("positive", "negative", "lowest"), [(0.5, 0.4, 0.0), (0.1, 0.1, 0.3), (0.7, 0.3, 0.3)])
def test_max_iou_equals_loops(seed, positive, negative, lowest):
    priors, targets = ANCHORS["three"].priors(((12, 16), (6, 8), (3, 4))), random_truth(seed)
    assignment = MaxIoUAssigner(positive, negative, lowest, match_low_quality=False)(priors, targets)
    assert_equals_loops(assignment, lambda image: naive.max_iou(priors, targets, image, positive, negative, 2.0))
    if seed % 3:  # whole pixels make ties that only float32 arithmetic splits as float32 arithmetic does
        assignment = MaxIoUAssigner(positive, negative, lowest)(without_grids(priors), targets)
        by_grid = MaxIoUAssigner(positive, negative, lowest)(priors, targets)
        assert torch.equal(assignment.gt_index, by_grid.gt_index)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", ASSIGNERS)
@pytest.mark.parametrize("kind", ANCHORS)
@pytest.mark.parametrize("border", [None, -1, 0, 20])
def test_closed_form_equals_dense_path(seed, name, kind, border):
    generator, targets = ANCHORS[kind], random_truth(seed)
    priors = generator.priors(((12, 16), (6, 8), (3, 4)))
    if border is not None:
        priors = restricted(generator, priors, [(96, 100), (70, 128)], border)
    on_grid, dense = (assign(name, some, targets) for some in (priors, without_grids(priors)))
    assert torch.equal(on_grid.gt_index, dense.gt_index)
    # an IoU that no threshold asks for is not looked up on grids
    relevant = dense.is_positive & ((dense.overlaps >= 0.5) | ("max_iou" not in name))
    torch.testing.assert_close(on_grid.overlaps[relevant], dense.overlaps[relevant])


@pytest.mark.parametrize("name", ASSIGNERS)
def test_batch_equals_single_images(name):
    priors, targets = ANCHORS["one"].priors(((12, 16), (6, 8), (3, 4))), random_truth(5, images=4)
    boxes, logits = raw_predictions(priors, targets)
    whole = ASSIGNERS[name](priors, targets, Predictions.of_flat(boxes, logits=logits))
    for image, count in enumerate(targets.counts):
        truth = InstanceData(bboxes=targets.boxes[image, :count], labels=targets.labels[image, :count])
        predictions = Predictions.of_flat(boxes[image, None], logits=logits[image, None])
        single = ASSIGNERS[name](priors, Targets.from_instances([truth]), predictions)
        assert torch.equal(single.gt_index[0], whole.gt_index[image])


@pytest.mark.parametrize("name", ASSIGNERS)
def test_chunks_change_nothing(name, monkeypatch):
    priors, targets = ANCHORS["one"].priors(((12, 16), (6, 8), (3, 4))), random_truth(4, images=3)
    expected = assign(name, priors, targets)
    monkeypatch.setattr(candidates_module, "MAX_PAIRS", 1)
    assert torch.equal(assign(name, priors, targets).gt_index, expected.gt_index)
    assert torch.equal(assign(name, without_grids(priors), targets).gt_index, expected.gt_index)


@pytest.mark.parametrize("name", ASSIGNERS)
def test_no_truth_at_all(name):
    priors = ANCHORS["one"].priors(((12, 16), (6, 8), (3, 4)))
    empty = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    assignment = assign(name, priors, Targets.from_instances([empty, empty]))
    assert (assignment.gt_index == NEGATIVE).all()
    assert assignment.num_pos.tolist() == [0, 0]


@pytest.mark.parametrize("name", ASSIGNERS)
def test_one_prior(name):
    priors = TASK_UTILS.build(dict(type="AnchorGenerator", strides=[32], ratios=[1.0], scales=[1.0], center_offset=0.5))
    truth = InstanceData(bboxes=torch.tensor([[0.0, 0.0, 32.0, 32.0]]), labels=torch.tensor([0]))
    assigner = FCOSAssigner([(-1, 1e8)], "center" in name) if "fcos" in name else ASSIGNERS[name]
    predictions = Predictions.of_flat(truth.bboxes[None], logits=torch.zeros(1, 1, 5))
    assignment = assigner(priors.priors([(1, 1)]), Targets.from_instances([truth]), predictions)
    assert assignment.gt_index.tolist() == [[0]]


@pytest.mark.parametrize("count", [1, 3, 9, 20])
@pytest.mark.parametrize("seed", range(20))
def test_nearest_equals_sorting_all(count, seed):
    generator = torch.Generator().manual_seed(seed)
    kind = ANCHORS[["one", "three", "offset"][seed % 3]]
    priors = kind.priors(((12, 16), (6, 8), (3, 4)))
    points = torch.rand(1, 30, 2, generator=generator) * 200 - 40  # inside the grid and far outside of it
    if seed % 2:
        points = (points / 4).round() * 4  # ties: many priors as far as each other
    index, is_real = nearest(priors, points, count)
    distance = (priors.points - points[0][:, None]).square().sum(-1).sqrt()
    start = 0
    for level, size in enumerate(priors.num_level_priors):
        expected = distance[:, start : start + size].sort(dim=-1, stable=True).indices[:, :count] + start
        start += size
        for found, real, best in zip(index[0, :, level], is_real[0, :, level], expected):
            assert sorted(found[real].tolist()) == sorted(best.tolist())


@pytest.mark.parametrize(
    "assigner", [ATSSAssigner(9, ignore_iof_thr=0.5), MaxIoUAssigner(0.5, 0.5, ignore_iof_thr=0.5)]
)
def test_regions_to_ignore(assigner):
    """Priors of which more than half lies in a region are ignored unless ATSS has no other candidate."""
    priors, targets = ANCHORS["one"].priors(((12, 16), (6, 8), (3, 4))), random_truth(1, ignored=3)
    assignment = assigner(priors, targets)
    for image in range(targets.num_images):
        for prior, box in enumerate(priors.boxes.tolist()):
            area = (box[2] - box[0]) * (box[3] - box[1])
            shares = []
            for region in targets.ignore_boxes[image].tolist():
                width = min(box[2], region[2]) - max(box[0], region[0])
                height = min(box[3], region[3]) - max(box[1], region[1])
                shares.append(max(width, 0) * max(height, 0) / area)
            index = assignment.gt_index[image, prior]
            assert (index == IGNORED) == (max(shares) > 0.5 and index < 0)
            if max(shares) > 0.5:
                assert index == IGNORED or isinstance(assigner, ATSSAssigner)


def test_every_registered_assigner_is_tested():
    names = {name for name in TASK_UTILS.module_dict if name.endswith("Assigner")}
    assert names == {type(assigner).__name__ for assigner in ASSIGNERS.values()}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: ATSSAssigner(0), r"topk must be at least 1, but got 0"),
        (lambda: ATSSAssigner(9, alpha=0.5), r"alpha"),
        (lambda: ATSSAssigner(9, iou_calculator=dict(type="GIoU")), r"iou_calculator must be .* but got"),
        (lambda: MaxIoUAssigner(0.5, 0.4, perm_repeat_gt_cfg=dict()), r"perm_repeat_gt_cfg"),
        (lambda: MaxIoUAssigner(0.5, (0.1, 0.2, 0.3)), r"neg_iou_thr must be a number or two"),
        (lambda: FCOSAssigner(((1, 0),)), r"regress_ranges must hold"),
        (
            lambda: FCOSAssigner(((-1, 64),))(point_priors(), random_truth(1)),
            r"regress_ranges has 1 entries .* 3 levels",
        ),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("positive", "negative", "ignores"),
    [(0.1, 0.1, False), (0.3, 0.5, False), (0.5, 0.4, True), (0.4, (0.1, 0.4), True), (0.0, 0.0, True)],
)
def test_max_iou_knows_without_looking_whether_it_ignores(positive, negative, ignores):
    priors = ANCHORS["one"].priors(((12, 16), (6, 8), (3, 4)))
    assignments = [MaxIoUAssigner(positive, negative)(priors, random_truth(seed)) for seed in SEEDS]
    assert {one.has_ignored for one in assignments if one.overlaps is not None} == {ignores}
    assert any(one.is_ignored.any() for one in assignments) == ignores
