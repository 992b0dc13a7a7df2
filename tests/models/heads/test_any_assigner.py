"""Every head trains with every assigner, or says why not."""

import inspect

import pytest
import torch

from densehead.models.assigners import BaseAssigner
from densehead.registry import TASK_UTILS
from tests.models.heads.heads import CONFIGS, build, config, features, samples, total

ASSIGNERS = {
    "FCOSAssigner": dict(regress_ranges=((-1, 24), (24, 48), (48, 1e8))),
    "ATSSAssigner": dict(topk=9),
    "MaxIoUAssigner": dict(pos_iou_thr=0.4, neg_iou_thr=0.3, min_pos_iou=0.0),
    "SimOTAAssigner": dict(center_radius=2.5),
    "TaskAlignedAssigner": dict(topk=13),
    "DynamicSoftLabelAssigner": dict(topk=13),
}
WITHOUT = {"AutoAssignHead"}  # whose paper learns the assignment
REFUSING = [name for name in CONFIGS if CONFIGS[name]["type"] in WITHOUT]
TAKING = [name for name in CONFIGS if name not in REFUSING]


def with_assigner(name, kind, **changes):
    assigner = dict(type=kind, **ASSIGNERS[kind])
    if CONFIGS[name]["type"] == "PAAHead":
        changes["gmm_scheme"] = "paper"  # rules that give an object a single candidate need it
    return build(name, train_cfg={**config(name).get("train_cfg", {}), "assigner": assigner}, **changes)


def test_every_registered_assigner_is_tried():
    kinds = {name: kind for name, kind in TASK_UTILS.module_dict.items() if inspect.isclass(kind)}
    assert {name for name, kind in kinds.items() if issubclass(kind, BaseAssigner)} == set(ASSIGNERS)


@pytest.mark.parametrize("kind", ASSIGNERS)
@pytest.mark.parametrize("name", TAKING)
@pytest.mark.parametrize("counts", [[4, 2], [0, 1], [40, 3]], ids=str)
def test_losses_are_finite_and_every_parameter_learns(name, kind, counts):
    head, feats = with_assigner(name, kind), features(requires_grad=True)
    losses = head.loss(feats, samples(counts))
    assert all(value.isfinite() for value in losses.values())
    assert losses["num_pos"] > 0 or sum(counts) == 1  # a rule may leave a single small object out
    total(losses).backward()
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())
    assert head.last_assignment.gt_index.shape == (2, len(head.last_priors))


@pytest.mark.parametrize("kind", ASSIGNERS)
@pytest.mark.parametrize("name", TAKING)
def test_boxes_are_learned_through_any_assigner(name, kind):
    """Every weight gets a gradient that is not zero, but for the scales of levels without a positive."""
    head = with_assigner(name, kind)
    total(head.loss(features(), samples([6, 5]))).backward()
    for key, parameter in head.named_parameters():
        assert parameter.grad.count_nonzero() or "scale" in key, key


@pytest.mark.parametrize("kind", ASSIGNERS)
@pytest.mark.parametrize("name", REFUSING)
def test_a_pair_without_meaning_is_refused_with_the_reason(name, kind):
    with pytest.raises(ValueError, match=r"train_cfg.assigner .*AutoAssign"):
        with_assigner(name, kind)


@pytest.mark.parametrize("name", TAKING)
def test_squares_on_points_have_a_size(name):
    """The scale matters on heads of points, and only there."""
    counts = []
    for scale in (2, 8):
        train_cfg = {**config(name).get("train_cfg", {}), "point_box_scale": scale}
        train_cfg["assigner"] = dict(type="MaxIoUAssigner", **ASSIGNERS["MaxIoUAssigner"])
        head = build(name, train_cfg=train_cfg)
        head.loss(features(), samples([6, 5]))
        counts.append(head.last_assignment.gt_index)
        are_points = head.last_priors.are_points
    assert torch.equal(*counts) != are_points


def test_a_range_for_every_level_is_wanted():
    train_cfg = dict(assigner=dict(type="FCOSAssigner", regress_ranges=((-1, 64), (64, 1e8))))
    head = build("FCOSHead", train_cfg=train_cfg)
    with pytest.raises(ValueError, match=r"regress_ranges has 2 entries .* 3 levels"):
        head.loss(features(), samples([2, 1]))
