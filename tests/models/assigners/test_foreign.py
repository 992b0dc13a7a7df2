"""Assigners that answer for one image, as mmdetection writes them, in densehead's heads."""

import pytest
import torch
from mmengine.structures import InstanceData

from densehead.models.assigners import AssignResult, ForeignAssigner, build_assigner
from densehead.registry import TASK_UTILS
from densehead.structures import IGNORED, NEGATIVE
from tests.models.heads.heads import build, config, features, samples, total
from tests.models.heads.test_any_assigner import TAKING

torch.set_num_threads(1)


class PerImage:
    """What another framework would have: densehead's rule behind the call for one image, and nothing else of it."""

    kind: str
    keys: dict = {}

    def __init__(self):
        self._rule = TASK_UTILS.build(dict(type=f"densehead.{self.kind}", **self.keys))
        self.calls = []


class ATSSAssigner(PerImage):
    kind, keys = "ATSSAssigner", dict(topk=9)
    alpha = None

    def assign(self, pred_instances, num_level_priors, gt_instances, gt_instances_ignore=None):
        self.calls.append((pred_instances, num_level_priors, gt_instances, gt_instances_ignore))
        return self._rule.assign(pred_instances, num_level_priors, gt_instances, gt_instances_ignore)


class ATSSAssignerWithIgnore(ATSSAssigner):
    keys = dict(topk=9, ignore_iof_thr=0.5)


class Other(PerImage):
    def assign(self, pred_instances, gt_instances, gt_instances_ignore=None, **kwargs):
        self.calls.append((pred_instances, gt_instances, gt_instances_ignore, kwargs))
        return self._rule.assign(pred_instances, gt_instances, gt_instances_ignore, **kwargs)


class MaxIoUAssigner(Other):
    kind, keys = "MaxIoUAssigner", dict(pos_iou_thr=0.4, neg_iou_thr=0.3)


class SimOTAAssigner(Other):
    kind = "SimOTAAssigner"


class MySimOTA(SimOTAAssigner):
    """A child is called as its parent is."""


class TaskAlignedAssigner(Other):
    kind, keys = "TaskAlignedAssigner", dict(topk=13)


class DynamicSoftLabelAssigner(Other):
    kind = "DynamicSoftLabelAssigner"


class OwnRuleOnPoints(Other):
    """Known by no name; says itself what it wants."""

    kind, prior_form, score_form = "DynamicSoftLabelAssigner", "points", "logits"


RULES = [
    ATSSAssigner,
    ATSSAssignerWithIgnore,
    MaxIoUAssigner,
    SimOTAAssigner,
    MySimOTA,
    TaskAlignedAssigner,
    DynamicSoftLabelAssigner,
    OwnRuleOnPoints,
]


@pytest.fixture(autouse=True)
def _registered():
    for rule in RULES:
        TASK_UTILS.register_module(f"Foreign{rule.__name__}", module=rule)
    yield
    for rule in RULES:
        TASK_UTILS.module_dict.pop(f"Foreign{rule.__name__}")


def head_with(name, assigner):
    scheme = dict(gmm_scheme="paper") if config(name)["type"] == "PAAHead" else {}
    return build(name, train_cfg={**config(name).get("train_cfg", {}), "assigner": assigner}, **scheme)


def batch(counts=(4, 0, 7)):
    made = samples(list(counts))
    made[0].set_metainfo(dict(pad_shape=(64, 100)))  # priors in the padding take no part in heads of anchors
    made[-1].ignored_instances = InstanceData(bboxes=torch.tensor([[10.0, 20.0, 60.0, 70.0], [0.0, 0.0, 30.0, 30.0]]))
    return made


# VFNet without ATSS takes FCOS's rule in place of densehead's ATSSAssigner
PAIRS = [(name, rule) for name in TAKING for rule in RULES if (name, rule.kind) != ("VFNetHead-fcos", "ATSSAssigner")]


@pytest.mark.parametrize(("name", "rule"), PAIRS)
def test_equals_the_batched_rule_in_every_head(name, rule):
    own = head_with(name, dict(type=rule.kind, **rule.keys))
    foreign = head_with(name, dict(type=f"Foreign{rule.__name__}"))
    assert isinstance(foreign.assigner, ForeignAssigner)
    feats, truth = features(3), batch()
    expected, found = own.loss(feats, truth), foreign.loss(feats, truth)
    assert torch.equal(own.last_assignment.gt_index, foreign.last_assignment.gt_index)
    assert own.last_assignment.num_pos.sum() > 0
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-6)
    total(found).backward()
    assert all(parameter.grad.isfinite().all() for parameter in foreign.parameters())


def test_what_the_rule_is_told():
    head = head_with("ATSSHead", dict(type="ForeignATSSAssigner"))
    truth = batch()
    head.loss(features(3), truth)
    (first, counts, boxes, none), (_, _, empty, _), (last, all_counts, _, regions) = head.assigner.rule.calls
    # 64 x 100 pixels at strides 8, 16 and 32
    assert counts == [8 * 13, 4 * 7, 2 * 4]
    assert first.priors.shape == (sum(counts), 4)
    assert sum(all_counts) == len(last.priors) == len(head.last_priors)
    assert not {"scores", "bboxes"} & set(first.keys())
    assert torch.equal(boxes.bboxes, truth[0].gt_instances.bboxes)
    assert torch.equal(boxes.labels, truth[0].gt_instances.labels)
    assert len(empty) == 0
    assert none.bboxes.shape == (0, 4)
    assert torch.equal(regions.bboxes, truth[2].ignored_instances.bboxes)


def test_a_level_that_is_left_out_is_counted():
    head = build("ATSSHead", train_cfg=dict(assigner=dict(type="ForeignATSSAssigner"), allowed_border=0))
    head.loss(features(1), samples([2]))
    assert head.assigner.rule.calls[0][1][-1] == 0  # no anchor of 128 x 128 lies inside 96 x 128 pixels
    assert len(head.assigner.rule.calls[0][1]) == 3


@pytest.mark.parametrize(("name", "squares"), [("FCOSHead", True), ("ATSSHead", False)])
def test_points_are_given_squares_where_boxes_are_wanted(name, squares):
    head = head_with(name, dict(type="ForeignMaxIoUAssigner"))
    head.loss(features(), samples([2, 1]))
    width = head.assigner.rule.calls[0][0].priors[:, 2:] - head.assigner.rule.calls[0][0].priors[:, :2]
    expected = head.last_priors.strides * (8 if squares else 4)  # point_box_scale, and the scale of the anchors
    assert torch.equal(width, expected[:, None].expand(-1, 2))


@pytest.mark.parametrize(("kind", "form"), [("SimOTAAssigner", "scores"), ("DynamicSoftLabelAssigner", "logits")])
def test_predictions_come_as_the_rule_wants_them(kind, form):
    head = head_with("FCOSHead", dict(type=f"Foreign{kind}"))
    head.loss(features(), samples([2, 1]))
    instances = head.assigner.rule.calls[1][0]
    x, y, width, height = instances.priors.unbind(1)
    assert torch.equal(torch.stack([x, y], 1), head.last_priors.points)
    assert torch.equal(width, head.last_priors.strides)
    assert torch.equal(width, height)
    cls_logits = torch.cat([level.flatten(2) for level in head(features())[0]], 2)[1].T
    expected = cls_logits if form == "logits" else cls_logits.sigmoid()
    torch.testing.assert_close(instances.scores, expected)
    assert not instances.scores.requires_grad
    assert instances.bboxes.shape == (len(x), 4)


class Stating:
    """Says what it is told to say."""

    def __init__(self, gt_inds, overlaps=None):
        self.result = AssignResult(1, gt_inds, overlaps, None)

    def assign(self, pred_instances, gt_instances):
        return self.result


def states(head, rule):
    head.assigner = ForeignAssigner(rule)
    head.loss(features(1), samples([1]))
    return head.last_assignment


def test_what_the_rule_says():
    head = build("ATSSHead")
    gt_inds = torch.zeros(252, dtype=torch.long)
    gt_inds[3], gt_inds[7] = 1, -1
    assignment = states(head, Stating(gt_inds))
    assert assignment.gt_index[0, :8].tolist() == [NEGATIVE] * 3 + [0] + [NEGATIVE] * 3 + [IGNORED]
    assert assignment.has_ignored
    assert assignment.overlaps is None  # nothing is known of what an unknown rule means by its overlaps


@pytest.mark.parametrize("gt_inds", [torch.zeros(3, dtype=torch.long), None])
def test_a_result_of_another_form(gt_inds):
    with pytest.raises(TypeError, match=r"Stating.assign must return gt_inds of shape \(252,\)"):
        states(build("ATSSHead"), Stating(gt_inds))


def test_for_one_image_it_answers_as_the_rule_does():
    rule = Stating(torch.zeros(2))
    assert ForeignAssigner(rule).assign(InstanceData(), InstanceData()) is rule.result


class WantsMore:
    def assign(self, pred_instances, gt_instances, img_meta):
        """Never called."""


class Positional:
    def assign(self, boxes, gt_boxes):
        """Never called."""


class HungarianAssigner:
    def assign(self, pred_instances, gt_instances, img_meta=None, **kwargs):
        """Never called."""


class BadForm(Stating):
    prior_form = "circles"


@pytest.mark.parametrize(
    ("rule", "error", "message"),
    [
        (WantsMore(), TypeError, r"a dense head has no img_meta"),
        (Positional(), TypeError, r"Positional.assign must take pred_instances and gt_instances"),
        (HungarianAssigner(), TypeError, r"HungarianAssigner does not fit a dense head, for it wants image metas"),
        (object(), TypeError, r"object has no assign\(pred_instances, gt_instances, ...\)"),
        (BadForm(None), ValueError, r"BadForm.prior_form must be one of \('boxes', 'points'\), but is 'circles'"),
    ],
)
def test_rules_that_do_not_fit(rule, error, message):
    with pytest.raises(error, match=message):
        ForeignAssigner(rule)


def test_predictions_are_needed():
    head = build("FCOSHead")
    head.loss(features(1), samples([1]))
    with pytest.raises(ValueError, match="SimOTAAssigner is given predicted boxes"):
        ForeignAssigner(SimOTAAssigner())(head.last_priors, head.last_targets)


def test_own_rules_stay_what_they_are():
    assert type(build_assigner(dict(type="ATSSAssigner", topk=3))).__module__ == "densehead.models.assigners.atss"


def test_a_result_takes_what_samplers_and_rules_add():
    result = AssignResult(2, torch.tensor([0, 2, -1]), torch.tensor([0.1, 0.7, 0.3]), torch.tensor([-1, 5, -1]))
    result.set_extra_property("shadowed", torch.tensor([1]))
    assert result.get_extra_property("shadowed").tolist() == [1]
    assert result.get_extra_property("other") is None
    assert result.info.keys() == {"num_gts", "num_preds", "gt_inds", "max_overlaps", "labels", "shadowed"}
    with pytest.raises(ValueError, match="an AssignResult has a 'labels' already"):
        result.set_extra_property("labels", None)
    result.add_gt_(torch.tensor([4, 5]))
    assert result.gt_inds.tolist() == [1, 2, 0, 2, -1]
    torch.testing.assert_close(result.max_overlaps, torch.tensor([1.0, 1.0, 0.1, 0.7, 0.3]))
    assert result.labels.tolist() == [4, 5, -1, 5, -1]
    assert result.num_preds == 5
