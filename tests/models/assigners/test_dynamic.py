"""The rules that go by predictions, against loops, and where predictions or truth are bad."""

import pytest
import torch
from mmengine.structures import InstanceData

from densehead.models.assigners import DynamicSoftLabelAssigner, SimOTAAssigner, TaskAlignedAssigner
from densehead.models.assigners import pool as pool_module
from densehead.models.assigners.dynamic import Matching, dynamic_count
from densehead.models.assigners.pool import Pool
from densehead.models.assigners.regions import inside_any
from densehead.registry import TASK_UTILS
from densehead.structures import NEGATIVE, Predictions, Priors, Targets
from tests.models.assigners import naive
from tests.models.assigners.scenes import (
    SIZES,
    anchor_generator,
    point_priors,
    random_truth,
    raw_predictions,
    restricted,
    without_grids,
)

GENERATORS = {
    "points": TASK_UTILS.build(dict(type="MlvlPointGenerator", strides=[8, 16, 32], offset=0)),
    "four_anchors": anchor_generator(ratios=(0.5, 1.0), scales=(2.0, 4.0), center_offset=0.5),
}
RULES = {
    "sim_ota": (SimOTAAssigner(), naive.sim_ota, "scores"),
    "soft_label": (DynamicSoftLabelAssigner(), naive.dynamic_soft_label, "logits"),
    "task_aligned": (TaskAlignedAssigner(13), naive.task_aligned, "scores"),
}
CANDIDATES = {"sim_ota": "candidate_topk", "soft_label": "topk", "task_aligned": "topk"}
NAN, INF = float("nan"), float("inf")


def flat(form, boxes, logits):
    return Predictions.of_flat(boxes, **{form: logits if form == "logits" else logits.sigmoid()})


def one_truth(box=(40.0, 40.0, 70.0, 66.0), label=0):
    return Targets.from_instances([InstanceData(bboxes=torch.tensor([box]), labels=torch.tensor([label]))])


# ---- against loops -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("border", [None, 0])
@pytest.mark.parametrize("kind", GENERATORS)
@pytest.mark.parametrize("name", RULES)
def test_equals_loops(name, kind, border, seed):
    assigner, reference, form = RULES[name]
    priors, targets = GENERATORS[kind].priors(SIZES), random_truth(seed)
    if border is not None:
        priors = restricted(GENERATORS[kind], priors, [(96, 100), (70, 128)], border)
    boxes, logits = raw_predictions(priors, targets, seed)
    classes = logits if form == "logits" else logits.sigmoid()
    for some in (priors, without_grids(priors)):
        assignment = assigner(some, targets, flat(form, boxes, logits))
        for image, row in enumerate(assignment.gt_index.tolist()):
            assert row == reference(priors, targets, image, boxes, classes), f"image {image}"


@pytest.mark.parametrize(
    ("assigner", "reference", "arguments"),
    [
        (SimOTAAssigner(1.0, 3, 0.5, 2.0), naive.sim_ota, dict(radius=1.0, topk=3, weights=(0.5, 2.0))),
        (SimOTAAssigner(candidate_topk=10_000), naive.sim_ota, dict(topk=10_000)),
        (DynamicSoftLabelAssigner(1.0, 5, 1.0), naive.dynamic_soft_label, dict(radius=1.0, topk=5, weight=1.0)),
        (DynamicSoftLabelAssigner(topk=10_000), naive.dynamic_soft_label, dict(topk=10_000)),
        (TaskAlignedAssigner(4, alpha=0.5, beta=2), naive.task_aligned, dict(topk=4, alpha=0.5, beta=2)),
        (TaskAlignedAssigner(10_000), naive.task_aligned, dict(topk=10_000)),
    ],
)
def test_keys_equal_loops(assigner, reference, arguments):
    priors, targets = point_priors(), random_truth(4)
    boxes, logits = raw_predictions(priors, targets, 4)
    form = getattr(assigner, "class_form", "scores")
    assignment = assigner(priors, targets, flat(form, boxes, logits))
    classes = logits if form == "logits" else logits.sigmoid()
    for image, row in enumerate(assignment.gt_index.tolist()):
        assert row == reference(priors, targets, image, boxes, classes, **arguments)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("kind", GENERATORS)
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_maps_equal_flat_predictions(name, kind, memory):
    """Scores are read from level maps of one and of four base priors, and the overlap is that of the prediction."""
    assigner, _, _ = RULES[name]
    priors, targets = GENERATORS[kind].priors(SIZES), random_truth(4)
    boxes, logits = raw_predictions(priors, targets, 4)
    count = priors.grids[0].step
    maps = [
        level.unflatten(1, (height, width, count)).permute(0, 3, 4, 1, 2).flatten(1, 2).contiguous(memory_format=memory)
        for level, (height, width) in zip(logits.split(priors.num_level_priors, 1), SIZES)
    ]
    predictions = Predictions(count, read_boxes=lambda _, image, prior: boxes[image, prior], cls_logits=maps)

    assignment = assigner(priors, targets, predictions)

    expected = assigner(priors, targets, Predictions.of_flat(boxes, logits=logits))
    assert torch.equal(assignment.gt_index, expected.gt_index)
    image, prior = assignment.is_positive.nonzero(as_tuple=True)
    truth = targets.boxes[image, assignment.gt_index[image, prior]]
    ious = [naive.iou(a, b) for a, b in zip(boxes[image, prior].tolist(), truth.tolist())]
    torch.testing.assert_close(assignment.overlaps[image, prior], torch.tensor(ious))
    assert len(ious) > 5


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("border", [None, 0])
def test_leaving_priors_out_changes_nothing(name, border, monkeypatch):
    """As on a GPU, where all priors stay in the pool."""
    assigner, _, form = RULES[name]
    priors, targets = GENERATORS["points"].priors(SIZES), random_truth(4)
    if border is not None:
        priors = restricted(GENERATORS["points"], priors, [(96, 100), (70, 128)], border)
    predictions = flat(form, *raw_predictions(priors, targets))
    expected = assigner(priors, targets, predictions)
    monkeypatch.setattr(pool_module, "_compact", pool_module._all)
    assignment = assigner(priors, targets, predictions)
    assert torch.equal(assignment.gt_index, expected.gt_index)
    assert torch.equal(assignment.overlaps, expected.overlaps)


@pytest.mark.parametrize("name", RULES)
def test_one_image_needs_all_priors(name):
    """Beside it another of the batch leaves most out."""
    assigner, reference, form = RULES[name]
    priors, targets = point_priors(), one_truth((-50.0, -50.0, 200.0, 200.0))
    boxes = torch.cat([targets.boxes, one_truth().boxes])
    targets = Targets.from_instances([InstanceData(bboxes=box, labels=torch.tensor([0])) for box in boxes])
    boxes, logits = raw_predictions(priors, targets)
    index = assigner(priors, targets, flat(form, boxes, logits)).gt_index
    for image in (0, 1):
        expected = reference(priors, targets, image, boxes, logits if form == "logits" else logits.sigmoid())
        assert index[image].tolist() == expected


@pytest.mark.parametrize("name", RULES)
def test_order_of_the_truth_does_not_matter(name):
    assigner, _, form = RULES[name]
    priors, targets = point_priors(), random_truth(2, images=1)
    predictions = flat(form, *raw_predictions(priors, targets))
    order = torch.randperm(targets.max_count, generator=torch.Generator().manual_seed(0))
    truth = InstanceData(bboxes=targets.boxes[0, order], labels=targets.labels[0, order])
    mixed = assigner(priors, Targets.from_instances([truth]), predictions)
    expected = assigner(priors, targets, predictions)
    index = order[mixed.gt_index.clamp(min=0)].where(mixed.is_positive, -1)
    same_box = (targets.boxes[0, index.clamp(min=0)] == targets.boxes[0, expected.gt_index.clamp(min=0)]).all(-1)
    assert torch.equal(mixed.is_positive, expected.is_positive)
    assert same_box[expected.is_positive].all()


# ---- the parts -----------------------------------------------------------------------------------------------------


def pool_of(count: int) -> Pool:
    priors = Priors.from_points(torch.zeros(count, 2), torch.ones(count))
    return Pool.of(priors, Predictions.of_flat(torch.ones(1, count, 4)), torch.ones(1, count, dtype=torch.bool))


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_matching_by_hand(chunk):
    """Truths 0 and 1 both take prior 0, which is cheapest for truth 2 that takes prior 3; prior 2 costs too much."""
    cost = torch.tensor([[[0.3, 0.5, INF, 0.9], [0.2, 0.1, INF, 0.9], [0.1, 0.9, 0.4, 0.0]]])
    count = torch.tensor([[1, 2, 1]])
    matching = Matching(pool_of(4), most=2)
    for begin in range(0, 3, chunk):
        matching.enter(cost[:, begin : begin + chunk], count[:, begin : begin + chunk], begin)
    assert matching.result().tolist() == [[2, 1, -1, 2]]


def test_matching_of_equal_costs():
    """All of the first two priors; both go to the first truth. Infinite costs go to nobody, however many are asked."""
    matching = Matching(pool_of(4), most=9)
    matching.enter(torch.tensor([[[1.0, 1, 1, INF], [1, 1, 1, INF]]]), torch.tensor([[2, 2]]))
    assert matching.result().tolist() == [[0, 0, -1, -1]]
    matching = Matching(pool_of(4), most=9)
    matching.enter(torch.tensor([[[1.0, INF, INF, INF]]]), torch.tensor([[4]]))
    assert matching.result().tolist() == [[0, -1, -1, -1]]


def test_dynamic_count_by_hand():
    iou = torch.tensor([[[0.9, 0.8, 0.7, 0.6], [0.1, 0, 0, 0], [1, 1, 1, 1]]])
    assert dynamic_count(iou, 3).tolist() == [[2, 1, 3]]
    assert dynamic_count(iou, 10).tolist() == [[3, 1, 4]]


@pytest.mark.parametrize("kind", GENERATORS)
@pytest.mark.parametrize("seed", range(6))
def test_inside_any_equals_loops(kind, seed):
    """On the edges of boxes of whole pixels there are points, which lie outside."""
    priors, targets = GENERATORS[kind].priors(SIZES), random_truth(3 * seed)

    def regions(boxes, strides):
        centre = (boxes[..., :2] + boxes[..., 2:]) / 2
        return [(boxes[..., :2], boxes[..., 2:]), (centre - strides, centre + strides)]

    inside = inside_any(priors, targets, regions)
    points, strides = priors.points.tolist(), priors.strides.tolist()
    for image, count in enumerate(targets.counts):
        for prior, ((x, y), stride) in enumerate(zip(points, strides)):
            expected = False
            for x1, y1, x2, y2 in targets.boxes[image, :count].tolist():
                far = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2))
                expected |= (x1 < x < x2 and y1 < y < y2) or far < stride
            assert inside[image, prior] == expected
    assert torch.equal(inside, inside_any(without_grids(priors), targets, regions))


def test_a_region_that_ends_before_it_begins_holds_nothing():
    """Nor does it take anything from the regions of others."""
    boxes = torch.tensor([[-1.0, -1.0, 129.0, 97.0], [100.0, 10.0, 20.0, 80.0]])
    targets = Targets.from_instances([InstanceData(bboxes=boxes, labels=torch.zeros(2, dtype=torch.long))])
    assert inside_any(point_priors(), targets, lambda boxes, _: [(boxes[..., :2], boxes[..., 2:])]).all()


def test_what_is_padded_gets_nothing():
    """Where two truths take one prior that a truth of the padding's class and place would have for less."""
    priors = point_priors()
    pair = InstanceData(bboxes=torch.tensor([[0.0, 0, 20, 20]] * 2), labels=torch.tensor([1, 1]))
    three = InstanceData(bboxes=torch.tensor([[60.0, 60, 90, 90]] * 3), labels=torch.tensor([0, 0, 0]))
    targets = Targets.from_instances([pair, three])
    logits = torch.tensor([3.0, -5.0]).expand(2, len(priors), 2)
    far = torch.tensor([500.0, 500, 510, 510]).expand(2, len(priors), 4)
    assignment = DynamicSoftLabelAssigner()(priors, targets, Predictions.of_flat(far, logits=logits))
    assert assignment.gt_index[0].max() == 0
    assert assignment.num_pos.tolist() == [1, 1]


# ---- bad input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [NAN, INF, -INF, 1e30])
@pytest.mark.parametrize("name", RULES)
def test_boxes_that_are_not_finite_take_no_part(name, value):
    """The assignment is the one in which these priors overlap nothing and are not there."""
    assigner, _, form = RULES[name]
    priors, targets = GENERATORS["points"].priors(SIZES), random_truth(4)
    boxes, logits = raw_predictions(priors, targets)
    is_bad = torch.rand(boxes.shape[:2], generator=torch.Generator().manual_seed(0)) < 0.4
    boxes[is_bad, torch.arange(int(is_bad.sum())) % 4] = value
    assignment = assigner(priors, targets, flat(form, boxes, logits))
    assert not (assignment.is_positive & is_bad).any()
    assert assignment.overlaps.isfinite().all()
    assert assignment.num_pos.min() > 0
    image = 0
    kept = (~is_bad[image]).nonzero()[:, 0]
    some = Priors(priors.points[kept], priors.boxes[kept], priors.strides[kept], priors.level_index[kept], (len(kept),))
    truth = InstanceData(
        bboxes=targets.boxes[image, : targets.counts[image]], labels=targets.labels[image, : targets.counts[image]]
    )
    alone = assigner(some, Targets.from_instances([truth]), flat(form, boxes[:1, kept], logits[:1, kept]))
    assert torch.equal(alone.gt_index[0], assignment.gt_index[image, kept])


@pytest.mark.parametrize("value", [NAN, INF])
@pytest.mark.parametrize("name", RULES)
def test_scores_that_are_not_numbers_win_nothing(name, value):
    assigner, _, form = RULES[name]
    priors, targets = point_priors(), random_truth(4)
    boxes, logits = raw_predictions(priors, targets)
    is_bad = torch.rand(boxes.shape[:2], generator=torch.Generator().manual_seed(0)) < 0.4
    classes = logits if form == "logits" else logits.sigmoid()
    classes[is_bad] = value
    assignment = assigner(priors, targets, Predictions.of_flat(boxes, **{form: classes}))
    assert not (assignment.is_positive & is_bad).any()
    assert assignment.num_pos.min() > 0


@pytest.mark.parametrize("name", RULES)
def test_nothing_but_nan(name):
    assigner, _, form = RULES[name]
    priors, targets = point_priors(), random_truth(4)
    boxes, logits = (torch.full_like(tensor, NAN) for tensor in raw_predictions(priors, targets))
    for some in (priors, without_grids(priors)):
        assignment = assigner(some, targets, flat(form, boxes, logits))
        assert (assignment.gt_index == NEGATIVE).all()
        assert (assignment.overlaps == 0).all()


@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("value", [-INF, -500.0, 500.0])
def test_certain_scores(name, value):
    """A probability of exactly 0 or 1 costs much, but not infinitely much, where it is wrong."""
    assigner, form = type(RULES[name][0])(**{CANDIDATES[name]: 3}), RULES[name][2]
    priors, targets = point_priors(), one_truth()
    (left, top, right, bottom), (x, y) = targets.boxes[0, 0], priors.points.T
    is_inside = (x > left) & (y > top) & (x < right) & (y < bottom)
    boxes = targets.boxes * is_inside[None, :, None]
    logits = torch.full((1, len(priors), 3), value)
    logits[:, ::2, 0] = 3.0
    index = assigner(priors, targets, flat(form, boxes, logits)).is_positive[0].nonzero()[:, 0]
    assert len(index) == 3
    assert is_inside[index].all()
    if value < 0:
        assert (index % 2 == 0).all()


@pytest.mark.parametrize("name", RULES)
def test_truth_smaller_than_a_stride(name):
    """Between the points SimOTA finds priors by the centre region; the others find none, or by another truth."""
    assigner, _, form = RULES[name]
    priors = point_priors()
    small = one_truth((41.0, 41.0, 43.0, 43.0))
    boxes, logits = raw_predictions(priors, small)
    expected = 1 if name == "sim_ota" else 0
    assert assigner(priors, small, flat(form, boxes, logits)).num_pos.tolist() == [expected]
    on_a_point = one_truth((43.0, 43.0, 45.0, 45.0))
    nearest = 5 * 16 + 5
    boxes[0, nearest] = on_a_point.boxes[0, 0]
    assignment = assigner(priors, on_a_point, flat(form, boxes, logits))
    assert assignment.is_positive[0].nonzero()[:, 0].tolist() == [nearest]


@pytest.mark.parametrize("name", RULES)
def test_truth_without_extent_or_outside(name):
    assigner, _, form = RULES[name]
    priors = point_priors()
    for box in [(44.0, 44.0, 44.0, 44.0), (50.0, 50.0, 40.0, 40.0), (-90.0, -90.0, -60.0, -60.0)]:
        targets = one_truth(box)
        assignment = assigner(priors, targets, flat(form, *raw_predictions(priors, targets)))
        assert assignment.overlaps.isfinite().all()
        assert name == "sim_ota" or assignment.num_pos.item() == 0


@pytest.mark.parametrize("name", RULES)
def test_no_priors(name):
    assigner, _, form = RULES[name]
    priors = Priors.from_points(torch.zeros(0, 2), torch.zeros(0))
    assignment = assigner(priors, one_truth(), flat(form, torch.zeros(1, 0, 4), torch.zeros(1, 0, 3)))
    assert assignment.gt_index.shape == (1, 0)


@pytest.mark.parametrize("name", RULES)
def test_half_precision_and_gradients(name):
    """Predictions of autocast, with a graph behind them: nothing overflows, nothing is recorded."""
    assigner = RULES[name][0]
    priors, targets = point_priors(), random_truth(4)
    boxes, logits = raw_predictions(priors, targets)
    boxes, logits = boxes.half(), logits.half()
    half = Predictions.of_flat(boxes.requires_grad_(), logits=logits.requires_grad_())
    assignment = assigner(priors, targets, half)
    expected = assigner(priors, targets, Predictions.of_flat(boxes.float(), logits=logits.float()))
    assert torch.equal(assignment.gt_index, expected.gt_index)
    assert not assignment.overlaps.requires_grad


@pytest.mark.parametrize("name", RULES)
def test_double_precision_truth(name):
    assigner = RULES[name][0]
    priors, targets = point_priors(), random_truth(4, images=1)
    boxes, logits = raw_predictions(priors, targets)
    truth = InstanceData(bboxes=targets.boxes[0].double(), labels=targets.labels[0])
    predictions = Predictions.of_flat(boxes, logits=logits)
    assignment = assigner(priors, Targets.from_instances([truth]), predictions)
    assert torch.equal(assignment.gt_index, assigner(priors, targets, predictions).gt_index)


@pytest.mark.parametrize("name", RULES)
def test_missing_predictions_are_named(name):
    assigner = RULES[name][0]
    priors, targets = point_priors(), one_truth()
    kind = type(assigner).__name__
    assert assigner.needs_predictions
    with pytest.raises(ValueError, match=rf"{kind} decides by predicted boxes .* no predictions"):
        assigner(priors, targets)
    with pytest.raises(ValueError, match=rf"{kind} decides by predicted boxes .* predictions of \[\] only"):
        assigner(priors, targets, Predictions.of_flat(torch.zeros(1, len(priors), 4)))
    with pytest.raises(ValueError, match="hold no boxes"):
        assigner(priors, targets, Predictions.of_flat(None, logits=torch.zeros(1, len(priors), 5)))


@pytest.mark.parametrize("name", RULES)
def test_bad_input_for_one_image_is_named(name):
    assigner = RULES[name][0]
    truth = InstanceData(bboxes=torch.tensor([[0.0, 0, 32, 32]]), labels=torch.tensor([7]))
    points = torch.tensor([[8.0, 8, 8, 8], [16, 8, 8, 8]])
    with pytest.raises(ValueError, match=r"needs pred_instances with bboxes of shape \(2, 4\) .* 'scores': None"):
        assigner.assign(InstanceData(priors=points, bboxes=torch.zeros(2, 4)), truth)
    with pytest.raises(ValueError, match=r"label 7, but bbox_head.num_classes=3"):
        assigner.assign(InstanceData(priors=points, bboxes=torch.zeros(2, 4), scores=torch.zeros(2, 3)), truth)


@pytest.mark.parametrize("name", RULES)
def test_one_image_without_positives(name):
    """mmdetection's ``max_overlaps`` are zeros where no prior takes part; the alignment's are its least value."""
    assigner = RULES[name][0]
    truth = InstanceData(bboxes=torch.tensor([[-90.0, -90, -80, -80]]), labels=torch.tensor([0]))
    instances = InstanceData(
        priors=torch.tensor([[8.0, 8, 8, 8], [16, 8, 8, 8]]), bboxes=torch.zeros(2, 4), scores=torch.zeros(2, 3)
    )
    result = assigner.assign(instances, truth)
    assert result.gt_inds.tolist() == [0, 0]
    assert result.labels.tolist() == [-1, -1]
    assert result.max_overlaps.tolist() == ([-1e8, -1e8] if name == "task_aligned" else [0, 0])


def test_task_aligned_exponents_of_a_call():
    """``alpha`` and ``beta`` of the call take the place of the assigner's, for this call alone."""
    priors, targets = GENERATORS["four_anchors"].priors(SIZES), random_truth(4, images=1)
    boxes, logits = raw_predictions(priors, targets)
    instances = InstanceData(priors=priors.boxes, bboxes=boxes[0], scores=logits[0].sigmoid())
    truth = InstanceData(bboxes=targets.boxes[0], labels=targets.labels[0])
    assigner = TaskAlignedAssigner(5)
    result = assigner.assign(instances, truth, alpha=0.5, beta=2)
    expected = naive.task_aligned(priors, targets, 0, boxes, logits.sigmoid(), topk=5, alpha=0.5, beta=2)
    assert (result.gt_inds - 1).tolist() == expected
    positive = result.gt_inds > 0
    own = instances.scores[positive].gather(1, result.labels[positive, None])[:, 0]
    torch.testing.assert_close(result.assign_metrics[positive], own**0.5 * result.max_overlaps[positive] ** 2)
    assert (result.assign_metrics[~positive] == 0).all()
    assert (assigner.alpha, assigner.beta) == (1, 6)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: SimOTAAssigner(candidate_topk=0), r"SimOTAAssigner.candidate_topk must be at least 1, but got 0"),
        (lambda: SimOTAAssigner(center_radius=0), r"SimOTAAssigner.center_radius must be positive, but got 0"),
        (lambda: SimOTAAssigner(iou_calculator=dict(type="GIoU")), r"SimOTAAssigner.iou_calculator must be"),
        (lambda: DynamicSoftLabelAssigner(topk=0), r"DynamicSoftLabelAssigner.topk must be at least 1, but got 0"),
        (lambda: TaskAlignedAssigner(0), r"TaskAlignedAssigner.topk must be at least 1, but got 0"),
        (lambda: TaskAlignedAssigner(1, dict(type="GIoU")), r"TaskAlignedAssigner.iou_calculator must be"),
    ],
)
def test_bad_keys_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("rule", [SimOTAAssigner(), TaskAlignedAssigner(topk=13), DynamicSoftLabelAssigner()])
def test_nothing_of_a_result_requires_gradients(rule):
    """mmdetection's heads call for each image outside of no_grad, some with predictions of their graph."""
    priors = torch.tensor([[16.0, 16.0, 48.0, 48.0], [8.0, 8.0, 8.0, 8.0]])
    boxes = torch.tensor([[10.0, 12.0, 44.0, 50.0], [0.0, 0.0, 20.0, 20.0]], requires_grad=True)
    scores = torch.tensor([[0.2, 0.7], [0.4, 0.1]], requires_grad=True)
    truth = InstanceData(bboxes=torch.tensor([[12.0, 12.0, 50.0, 50.0]]), labels=torch.tensor([1]))
    result = rule.assign(InstanceData(priors=priors, bboxes=boxes * 1.0, scores=scores * 1.0), truth)
    values = [result.gt_inds, result.max_overlaps, getattr(result, "assign_metrics", boxes.detach())]
    assert not any(value.requires_grad for value in values)
