"""mmdetection's assigners, losses, coders and prior generators in densehead's heads, and the other way round."""

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData

from densehead.models.assigners import ForeignAssigner
from densehead.registry import MODELS
from tests.models.heads import heads
from tests.models.heads.test_any_assigner import TAKING

pytest.importorskip("mmdet.models", reason="mmdetection is not installed")

from mmdet.registry import MODELS as MMDET_MODELS
from mmdet.registry import TASK_UTILS as MMDET_TASK_UTILS
from mmdet.structures.bbox import HorizontalBoxes

pytestmark = pytest.mark.filterwarnings("ignore")

# Of several anchors at one place some are equally near and overlap equally; which counts is not said by any rule.
SINGLE = [name for name in TAKING if not name.endswith("-anchors")]


def config(name, **changes):
    return ConfigDict(heads.config(name, **changes))


def build(cfg, registry=MODELS):
    torch.manual_seed(0)
    head = registry.build(copy.deepcopy(cfg))
    head.init_weights()
    return head


def batch(counts=(5, 0, 3)):
    made = heads.samples(list(counts))
    made[0].ignored_instances = InstanceData(bboxes=torch.tensor([[10.0, 20.0, 60.0, 70.0]]))
    made[-1].set_metainfo(dict(pad_shape=(64, 100)))
    return made


def results(head, samples=None):
    """Return the losses of a batch, each one scalar, and the gradients."""
    feats = heads.features(3)
    found = head.loss(tuple(feats), samples or batch())
    losses = {
        key: value if isinstance(value, torch.Tensor) else sum(value) for key, value in found.items() if "loss" in key
    }
    total = sum(losses.values())
    grads = torch.autograd.grad(total, list(head.parameters()), allow_unused=True)
    return losses, dict(zip((key for key, _ in head.named_parameters()), grads, strict=True))


def assert_same(found, expected):
    (losses, grads), (expected_losses, expected_grads) = found, expected
    assert losses.keys() == expected_losses.keys()
    for key, value in expected_losses.items():
        torch.testing.assert_close(losses[key], value, rtol=1e-4, atol=1e-6, msg=lambda text, key=key: f"{key}: {text}")
    for key, value in expected_grads.items():
        if value is None or grads[key] is None:
            assert all(one is None or not one.any() for one in (value, grads[key])), key
        else:
            torch.testing.assert_close(grads[key], value, rtol=1e-3, atol=1e-3 * value.abs().max().item() + 1e-7)


# ---- mmdetection's in densehead's -----------------------------------------------------------------------------------

ASSIGNERS = {
    "ATSSAssigner": dict(topk=9),
    "MaxIoUAssigner": dict(pos_iou_thr=0.08, neg_iou_thr=0.05, match_low_quality=False),
    "SimOTAAssigner": dict(center_radius=2.5),
    "TaskAlignedAssigner": dict(topk=13),
    "DynamicSoftLabelAssigner": dict(topk=13),
}


def with_assigner(name, **assigner):
    train_cfg = {**heads.config(name).get("train_cfg", {}), "assigner": assigner}
    scheme = dict(gmm_scheme="paper") if name.startswith("PAA") else {}
    return config(name, train_cfg=train_cfg, **scheme)


@pytest.mark.parametrize("kind", ASSIGNERS)
@pytest.mark.parametrize("name", SINGLE)
def test_their_assigners_in_our_heads(name, kind):
    if (name, kind) == ("VFNetHead-fcos", "ATSSAssigner"):
        pytest.skip("VFNet without ATSS takes FCOS's rule in place of densehead's ATSSAssigner")
    theirs = build(with_assigner(name, type=f"mmdet.{kind}", **ASSIGNERS[kind]))
    assert isinstance(theirs.assigner, ForeignAssigner)
    assert type(theirs.assigner.rule).__module__.startswith("mmdet.")
    ours = build(with_assigner(name, type=kind, **ASSIGNERS[kind]))
    assert type(ours.assigner).__module__.startswith("densehead.")
    assert_same(results(theirs), results(ours))
    assert torch.equal(theirs.last_assignment.gt_index, ours.last_assignment.gt_index)
    assert ours.last_assignment.num_pos.sum() > 0


@pytest.mark.parametrize("kind", ["PointAssigner", "CenterRegionAssigner"])
@pytest.mark.parametrize("name", ["FCOSHead", "ATSSHead"])
def test_their_other_assigners(name, kind):
    keys = dict(pos_scale=0.5, neg_scale=0.7) if kind == "CenterRegionAssigner" else {}
    head = build(with_assigner(name, type=f"mmdet.{kind}", **keys))
    losses, _ = results(head)
    assert all(value.isfinite() for value in losses.values())
    assert head.last_assignment.num_pos.sum() > 0


@pytest.mark.parametrize("kind", ["HungarianAssigner", "GridAssigner", "UniformAssigner", "RegionAssigner"])
def test_their_assigners_that_do_not_fit(kind):
    keys = {
        "HungarianAssigner": dict(match_costs=[dict(type="mmdet.IoUCost")]),
        "GridAssigner": dict(pos_iou_thr=0.5, neg_iou_thr=0.5),
        "UniformAssigner": dict(pos_ignore_thr=0.1, neg_ignore_thr=0.7),
    }
    with pytest.raises(TypeError, match=f"train_cfg.assigner: {kind} does not fit a dense head, for it wants"):
        build(with_assigner("ATSSHead", type=f"mmdet.{kind}", **keys.get(kind, {})))


CLASS_LOSSES = [
    dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.5),
    dict(type="QualityFocalLoss", use_sigmoid=True, beta=2.0),
    dict(type="VarifocalLoss", use_sigmoid=True),
    dict(type="CrossEntropyLoss", use_sigmoid=True),
    dict(type="CrossEntropyLoss", use_sigmoid=False),
]
BOX_LOSSES = [
    dict(type=kind, loss_weight=2.0)
    for kind in (
        "IoULoss",
        "GIoULoss",
        "DIoULoss",
        "CIoULoss",
        "EIoULoss",
        "SIoULoss",
        "BoundedIoULoss",
        "L1Loss",
        "SmoothL1Loss",
        "MSELoss",
    )
]


def their(cfg):
    return dict(cfg, type=f"mmdet.{cfg['type']}")


@pytest.mark.parametrize("loss", CLASS_LOSSES, ids=lambda loss: f"{loss['type']}-{loss['use_sigmoid']}")
@pytest.mark.parametrize("name", TAKING)
def test_their_classification_losses_in_our_heads(name, loss):
    key = "loss_cls_fl" if name.startswith("VFNet") and loss["type"] == "FocalLoss" else "loss_cls"
    options = dict(use_vfl=False) if key == "loss_cls_fl" else {}
    theirs, ours = (build(config(name, **{key: one}, **options)) for one in (their(loss), loss))
    assert type(theirs.loss_cls).__module__.startswith("mmdet.")
    assert type(ours.loss_cls).__module__.startswith("densehead.")
    assert_same(results(theirs), results(ours))


@pytest.mark.parametrize("loss", BOX_LOSSES, ids=lambda loss: loss["type"])
@pytest.mark.parametrize("name", [*TAKING, "AutoAssignHead"])
def test_their_box_losses_in_our_heads(name, loss):
    theirs, ours = (build(config(name, loss_bbox=one)) for one in (their(loss), loss))
    assert type(theirs.loss_bbox).__module__.startswith("mmdet.")
    assert_same(results(theirs), results(ours))


@pytest.mark.parametrize(
    ("name", "key", "loss"),
    [
        ("FCOSHead", "loss_centerness", dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0)),
        ("ATSSHead", "loss_centerness", dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0)),
        ("PAAHead", "loss_centerness", dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0)),
        ("GFLHead", "loss_dfl", dict(type="DistributionFocalLoss", loss_weight=0.25)),
        ("NanoDetPlusHead", "loss_dfl", dict(type="DistributionFocalLoss", loss_weight=0.25)),
        ("VFNetHead", "loss_bbox_refine", dict(type="SmoothL1Loss")),
    ],
)
@pytest.mark.parametrize("counts", [(5, 0, 3), (0, 0, 0)], ids=str)
def test_their_other_losses_in_our_heads(name, key, loss, counts):
    theirs, ours = (build(config(name, **{key: one})) for one in (their(loss), loss))
    assert_same(results(theirs, batch(counts)), results(ours, batch(counts)))


@pytest.mark.parametrize("use_box_type", [False, True])
@pytest.mark.parametrize("name", ["FCOSHead", "ATSSHead", "ATSSHead-anchors", "GFLHead", "VFNetHead", "PAAHead"])
def test_their_coders_and_generators_in_our_heads(name, use_box_type):
    coder = heads.config(name).get("bbox_coder") or dict(type="DistancePointBBoxCoder")
    changes = dict(bbox_coder=dict(their(coder), use_box_type=use_box_type))
    if "anchor_generator" in heads.config(name):
        changes["anchor_generator"] = dict(their(heads.config(name)["anchor_generator"]), use_box_type=use_box_type)
    test_cfg = dict(heads.TEST_CFG, score_thr=0.0)
    theirs, ours = build(config(name, test_cfg=test_cfg, **changes)), build(config(name, test_cfg=test_cfg))
    assert_same(results(theirs), results(ours))
    found = [head.eval().predict(heads.features(3), batch()) for head in (theirs, ours)]
    for one, other in zip(*found, strict=True):
        assert len(other) > 10
        assert isinstance(one.bboxes, HorizontalBoxes if use_box_type else torch.Tensor)
        boxes = one.bboxes.tensor if use_box_type else one.bboxes
        torch.testing.assert_close(boxes, other.bboxes, rtol=1e-5, atol=1e-3)


# ---- densehead's in mmdetection's -----------------------------------------------------------------------------------

PARTS = ("loss_cls", "loss_bbox", "loss_centerness", "loss_dfl", "loss_bbox_refine", "bbox_coder", "anchor_generator")
DISTANCE = dict(bbox_coder=dict(type="DistancePointBBoxCoder"))
CROSS_ENTROPY = dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0)
GENERATOR = dict(type="AnchorGenerator", octave_base_scale=4, scales_per_octave=1, ratios=[1.0], strides=heads.STRIDES)
VARIFOCAL = dict(type="VarifocalLoss", use_sigmoid=True, alpha=0.75, gamma=2.0, iou_weighted=True, loss_weight=1.0)
MAX_IOU = dict(type="MaxIoUAssigner", pos_iou_thr=0.4, neg_iou_thr=0.3, match_low_quality=False)
RULE = dict(allowed_border=-1, pos_weight=-1, debug=False)
THEIR_HEADS = {
    "FCOSHead": dict(**DISTANCE, loss_centerness=CROSS_ENTROPY),
    "ATSSHead": dict(loss_centerness=CROSS_ENTROPY),
    "GFLHead": dict(**DISTANCE, loss_dfl=dict(type="DistributionFocalLoss", loss_weight=0.25)),
    "VFNetHead": dict(
        **DISTANCE,
        anchor_generator=dict(heads.SQUARES, center_offset=0.0),
        loss_cls=VARIFOCAL,
        loss_bbox=dict(type="GIoULoss", loss_weight=1.5),
        loss_bbox_refine=dict(type="GIoULoss", loss_weight=2.0),
        train_cfg=dict(assigner=dict(type="ATSSAssigner", topk=9), **RULE),
    ),
    "PAAHead": dict(loss_centerness=CROSS_ENTROPY, train_cfg=dict(assigner=heads.CANDIDATES, **RULE)),
    "AutoAssignHead": dict(**DISTANCE),
}
COMMON = dict(heads.COMMON, loss_bbox=dict(type="GIoULoss", loss_weight=2.0))
DELTA = dict(type="DeltaXYWHBBoxCoder", target_stds=(0.1, 0.1, 0.2, 0.2))
OTHER_HEADS = {
    "RetinaHead": dict(
        COMMON,
        anchor_generator=GENERATOR,
        bbox_coder=DELTA,
        reg_decoded_bbox=True,
        loss_cls=heads.FOCAL,
        train_cfg=dict(assigner=MAX_IOU, **RULE),
    ),
    "TOODHead": dict(
        COMMON,
        num_dcn=0,
        stacked_convs=2,
        anchor_type="anchor_free",
        anchor_generator=GENERATOR,
        bbox_coder=DELTA,
        initial_loss_cls=dict(type="FocalLoss", use_sigmoid=True, activated=True, gamma=2.0, alpha=0.25),
        loss_cls=dict(type="QualityFocalLoss", use_sigmoid=True, activated=True, beta=2.0, loss_weight=1.0),
        train_cfg=dict(
            initial_epoch=4,
            initial_assigner=dict(type="ATSSAssigner", topk=9),
            assigner=dict(type="TaskAlignedAssigner", topk=13),
            alpha=1,
            beta=6,
            **RULE,
        ),
    ),
    "RTMDetHead": dict(
        COMMON,
        anchor_generator=dict(type="MlvlPointGenerator", offset=0, strides=heads.STRIDES),
        bbox_coder=dict(type="DistancePointBBoxCoder"),
        with_objectness=False,
        loss_cls=dict(type="QualityFocalLoss", use_sigmoid=True, beta=2.0, loss_weight=1.0),
        train_cfg=dict(assigner=dict(type="DynamicSoftLabelAssigner", topk=13), **RULE),
    ),
    "YOLOXHead": dict(
        num_classes=heads.CLASSES,
        in_channels=8,
        feat_channels=8,
        stacked_convs=1,
        strides=heads.STRIDES,
        loss_cls=dict(CROSS_ENTROPY, reduction="sum"),
        loss_bbox=dict(type="IoULoss", mode="square", eps=1e-16, reduction="sum", loss_weight=5.0),
        train_cfg=dict(assigner=dict(type="SimOTAAssigner", center_radius=2.5)),
        test_cfg=heads.TEST_CFG,
    ),
}


def with_our_parts(cfg):
    cfg = copy.deepcopy(cfg)
    parts = [cfg[key] for key in (*PARTS, "initial_loss_cls") if key in cfg]
    parts += [value for key, value in cfg.get("train_cfg", {}).items() if key.endswith("assigner")]
    assert len(parts) >= 3
    for part in parts:
        part["type"] = f"densehead.{part['type']}"
    return cfg


def their_config(name):
    if name in OTHER_HEADS:
        return ConfigDict(OTHER_HEADS[name], type=name)
    return config(name, **THEIR_HEADS[name])


@pytest.mark.parametrize("name", [*THEIR_HEADS, *OTHER_HEADS])
def test_our_parts_in_their_heads(name, monkeypatch):
    cfg = their_config(name)
    theirs, mixed = build(cfg, MMDET_MODELS), build(with_our_parts(cfg), MMDET_MODELS)
    assert type(mixed).__module__.startswith("mmdet.")
    assert type(mixed.loss_bbox).__module__.startswith("densehead.")
    assert type(theirs.loss_bbox).__module__.startswith("mmdet.")
    for epoch in (0, 5) if name == "TOODHead" else (0,):  # which has one assigner for the first epochs and another then
        monkeypatch.setitem(MessageHub.get_current_instance().runtime_info, "epoch", epoch)
        assert_same(results(mixed), results(theirs))


def test_our_assigner_with_their_sampler():
    """R-CNN's sampler adds the ground truths to what was assigned."""
    truth = batch()[0].gt_instances
    priors = heads.build("ATSSHead").prior_generator.priors(heads.SIZES).boxes
    proposals = InstanceData(priors=HorizontalBoxes(priors))
    found = []
    for scope in ("mmdet", "densehead"):
        assigner = MMDET_TASK_UTILS.build(dict(MAX_IOU, type=f"{scope}.MaxIoUAssigner"))
        sampler = dict(type="RandomSampler", num=10_000, pos_fraction=0.9, neg_pos_ub=-1, add_gt_as_proposals=True)
        boxed = InstanceData(bboxes=HorizontalBoxes(truth.bboxes), labels=truth.labels)
        sampled = MMDET_TASK_UTILS.build(sampler).sample(assigner.assign(proposals, boxed), proposals, boxed)
        found.append(sampled)
    theirs, ours = found
    assert len(ours.pos_inds) > len(truth)
    for key in ("pos_inds", "neg_inds", "pos_assigned_gt_inds", "pos_gt_labels"):
        assert torch.equal(getattr(ours, key), getattr(theirs, key)), key
