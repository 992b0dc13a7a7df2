"""The head of NanoDet-Plus holds to the official implementation, alone and guided by the auxiliary head."""

import logging

import pytest
import torch

from densehead.models import SimpleConvHead
from densehead.ops import aligned_iou
from densehead.registry import MODELS
from tests import golden
from tests.models.heads import nanodet
from tests.models.heads.heads import CLASSES, HALVES, build, config, features, samples, total

CASES = golden.cases("head_nanodet_plus")


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_outputs_losses_and_gradients(name, memory_format):
    meta, arrays = golden.load(name)
    head = nanodet.build_head(meta["head"], arrays, "param/")
    feats = [feat.to(memory_format=memory_format).requires_grad_() for feat in nanodet.levels(arrays, "feat")]
    maps = head(feats)
    golden.assert_close(nanodet.official_form(maps), arrays["out/preds"], relative=2e-4, name="preds")

    aux_maps = None
    if meta["aux_head"]:
        aux_head = nanodet.build_head(meta["aux_head"], arrays, "aux_param/")
        aux_maps = aux_head(nanodet.levels(arrays, "aux_feat"))
        golden.assert_close(nanodet.official_form(aux_maps), arrays["out/aux_preds"], relative=2e-4, name="aux_preds")

    losses = head.loss_by_feat(*maps, *nanodet.truth(meta, arrays), aux_maps=aux_maps)
    expected = {key.removeprefix("loss/"): value for key, value in arrays.items() if key.startswith("loss/")}
    golden.assert_close(sum(losses.values()), expected.pop("total"), relative=2e-4, name="total")
    assert {nanodet.our_name(key) for key in expected} == set(losses)
    for key, value in expected.items():
        golden.assert_close(losses[nanodet.our_name(key)], value, relative=2e-4, name=key)

    sum(losses.values()).backward()
    for level, feat in enumerate(feats):
        golden.assert_close(feat.grad, arrays[f"grad/feat/{level}"], relative=1e-3, name=f"grad/feat/{level}")
    for key, parameter in head.named_parameters():
        golden.assert_close(parameter.grad, arrays[f"grad/param/{key}"], relative=1e-3, name=f"grad/param/{key}")


@pytest.mark.parametrize("name", CASES)
def test_detections(name):
    meta, arrays = golden.load(name)
    head = nanodet.build_head(meta["head"], arrays, "param/")
    with torch.no_grad():
        results = head.predict_by_feat(
            *head(nanodet.levels(arrays, "feat")), batch_img_metas=nanodet.truth(meta, arrays)[1]
        )
    for image, result in enumerate(results):
        golden.assert_close(result.scores, arrays[f"pred/{image}/scores"], relative=1e-4, name="scores")
        golden.assert_close(result.bboxes, arrays[f"pred/{image}/bboxes"], relative=1e-4, name="bboxes")
        assert torch.equal(result.labels, arrays[f"pred/{image}/labels"])


def test_points_are_the_corners_of_their_cells():
    priors = build("NanoDetPlusHead")._priors(features())
    assert priors.points[:3].tolist() == [[0, 0], [8, 0], [16, 0]]
    assert priors.points[12 * 16 + 1].tolist() == [16, 0]


def test_starts_with_scores_of_one_percent():
    head = build("NanoDetPlusHead")
    scores, _ = head([feature * 0 for feature in features()])
    assert all(torch.allclose(level.sigmoid(), torch.tensor(0.01), atol=1e-3) for level in scores)


def auxiliary(seed=1):
    torch.manual_seed(seed)
    aux = SimpleConvHead(
        CLASSES, 8, feat_channels=8, stacked_convs=2, norm_cfg=dict(type="GN", num_groups=4), reg_max=7
    )
    aux.init_weights()
    with torch.no_grad():
        for parameter in aux.gfl_reg.parameters():
            parameter.normal_(std=0.3)
    return aux


@pytest.mark.parametrize("stacked_convs", [0, 1, 3])
def test_towers_of_the_auxiliary_head(stacked_convs):
    aux = SimpleConvHead(CLASSES, 8, feat_channels=4, stacked_convs=stacked_convs, norm_cfg=None, reg_max=7)
    assert len(aux.cls_convs) == len(aux.reg_convs) == stacked_convs
    for scores, boxes, feat in zip(*aux(features()), features()):
        assert scores.shape == (2, CLASSES, *feat.shape[2:])
        assert boxes.shape == (2, 4 * 8, *feat.shape[2:])


def test_the_auxiliary_head_does_the_assigning():
    head, aux, feats, batch = build("NanoDetPlusHead"), auxiliary(), features(), samples([4, 3])
    alone = head.loss(feats, batch)
    by_itself = head.last_assignment.gt_index
    aux_maps = aux(feats)
    guided = head.loss(feats, batch, aux_maps=aux_maps)
    by_auxiliary = head.last_assignment.gt_index
    assert not torch.equal(by_itself, by_auxiliary)
    assert set(guided) == set(alone) | {"aux_loss_cls", "aux_loss_bbox", "aux_loss_dfl"}
    # as its own, the maps of the auxiliary head have the losses that they have as the auxiliary head's
    truth = [sample.gt_instances for sample in batch], [sample.metainfo for sample in batch]
    own = head.loss_by_feat(*aux_maps, *truth)
    assert torch.equal(head.last_assignment.gt_index, by_auxiliary)
    for key, value in own.items():
        torch.testing.assert_close(guided[f"aux_{key}"], value)


def test_soft_labels_are_those_that_the_assigner_saw():
    head, feats, batch = build("NanoDetPlusHead"), features(), samples([4, 3])
    aux_maps = auxiliary()(feats)
    seen = []
    head._classification_loss = lambda *args: seen.append(args[4]) or torch.zeros(())
    head.loss(feats, batch, aux_maps=aux_maps)
    assert torch.equal(seen[0], seen[1])  # of the head and of the auxiliary head
    assert seen[0].max() > 0.05
    head = build("NanoDetPlusHead", train_cfg=dict(assigner=dict(type="ATSSAssigner", topk=9)))
    head._classification_loss = lambda *args: seen.append(args[4]) or torch.zeros(())
    head.loss(feats, batch, aux_maps=aux_maps)
    assert not torch.equal(seen[2], seen[3])  # ATSS compares no predictions: each head has its own IoUs


def test_the_auxiliary_head_is_taught_by_its_own_losses_only():
    head, aux, batch = build("NanoDetPlusHead"), auxiliary(), samples([4, 3])
    feats, aux_feats = features(requires_grad=True), features(seed=1, requires_grad=True)
    losses = head.loss(feats, batch, aux_maps=aux(aux_feats))
    sum(value for key, value in losses.items() if key.startswith("loss")).backward(retain_graph=True)
    assert all(feat.grad is None for feat in aux_feats)
    before = [feat.grad.clone() for feat in feats]
    sum(value for key, value in losses.items() if key.startswith("aux_loss")).backward()
    assert all(feat.grad.abs().max() > 0 for feat in aux_feats)
    assert all(torch.equal(feat.grad, old) for feat, old in zip(feats, before))


@pytest.mark.parametrize("conv_type", ["DWConv", "Conv"])
@pytest.mark.parametrize("norm_cfg", [dict(type="BN"), None])
@pytest.mark.parametrize("stacked_convs", [0, 2])
def test_kinds_of_towers(conv_type, norm_cfg, stacked_convs):
    head = build("NanoDetPlusHead", conv_type=conv_type, norm_cfg=norm_cfg, stacked_convs=stacked_convs)
    names = {key.removeprefix("cls_convs.1.0.") for key in head.state_dict() if key.startswith("cls_convs.1.0.")}
    end = "weight" if norm_cfg else "bias"
    assert (f"pointwise.{end}" in names) == (conv_type == "DWConv" and stacked_convs > 0)
    assert (f"conv.{end}" in names) == (conv_type == "Conv" and stacked_convs > 0)
    assert ("pointwise.bias" in names or "conv.bias" in names) == (norm_cfg is None and stacked_convs > 0)
    total(head.loss(features(), samples([3, 2]))).backward()


@pytest.mark.parametrize("loss_bbox", ["IoULoss", "GIoULoss", "DIoULoss", "CIoULoss", "SIoULoss", "EIoULoss"])
@pytest.mark.parametrize(
    "loss_cls",
    [
        dict(type="FocalLoss", use_sigmoid=True),
        dict(type="VarifocalLoss", use_sigmoid=True),
        dict(type="CrossEntropyLoss", use_sigmoid=True),
        dict(type="CrossEntropyLoss", use_sigmoid=False),
    ],
    ids=lambda cfg: f"{cfg['type']}-{cfg['use_sigmoid']}",
)
def test_other_losses(loss_cls, loss_bbox):
    head = build("NanoDetPlusHead", loss_cls=loss_cls, loss_bbox=dict(type=loss_bbox))
    losses = head.loss(features(), samples([3, 2]))
    total(losses).backward()
    assert all(value.isfinite() and value > 0 for key, value in losses.items() if "loss" in key)


def test_a_short_reach_is_reported_once(caplog):
    head = build("NanoDetPlusHead", reg_max=1)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            head.loss(features(), samples([4, 3]))
    assert sum("reg_max=1" in record.message for record in caplog.records) <= 1
    assert head.reach.has_warned


def test_a_batch_is_counted_once():
    head, aux, feats = build("NanoDetPlusHead", reg_max=7), auxiliary(), features()
    head.reach.has_warned = False
    small = samples([2, 1])
    for sample in small:
        sample.gt_instances.bboxes = torch.tensor([[16.0, 16.0, 40.0, 40.0]] * len(sample.gt_instances))
    head.loss(feats, small, aux_maps=aux(feats))
    assert head.reach.batches == 1
    assert head.reach.counts.tolist() == [0, 3]
    head.loss(feats, small, aux_maps=aux(feats))
    assert head.reach.batches == 2


@pytest.mark.parametrize(
    "assigner",
    [
        dict(type="DynamicSoftLabelAssigner"),
        dict(type="SimOTAAssigner"),
        dict(type="TaskAlignedAssigner", topk=13),
    ],
    ids=lambda assigner: assigner["type"],
)
def test_rules_that_see_predictions_hand_over_their_ious(assigner):
    head, feats, batch = build("NanoDetPlusHead", train_cfg=dict(assigner=assigner)), features(), samples([4, 3])
    aux_maps = auxiliary()(feats)
    seen = []
    head._classification_loss = lambda *args: seen.append(args[4]) or torch.zeros(())
    head.loss(feats, batch, aux_maps=aux_maps)
    positives = head.last_assignment.positives(head.last_targets)
    boxes = head._read(aux_maps, head.last_priors).boxes_at(positives.image_index, positives.prior_index)
    torch.testing.assert_close(seen[0], aligned_iou(boxes, positives.boxes))


@pytest.mark.parametrize("dtype", HALVES)
def test_guided_losses_under_autocast(dtype):
    head, aux, feats, batch = build("NanoDetPlusHead"), auxiliary(), features(), samples([4, 3])
    with torch.autocast("cpu", dtype):
        losses = head.loss(feats, batch, aux_maps=aux(feats))
    assert all(value.dtype == torch.float32 and value.isfinite() for key, value in losses.items() if "loss" in key)
    total(losses).backward()
    assert all(parameter.grad.isfinite().all() for parameter in [*head.parameters(), *aux.parameters()])


def test_one_side_of_a_batch_may_be_empty():
    head, aux, feats = build("NanoDetPlusHead"), auxiliary(), features()
    losses = head.loss(feats, samples([0, 0]), aux_maps=aux(feats))
    assert losses["loss_cls"] > 0
    assert losses["aux_loss_cls"] > 0
    assert losses["loss_bbox"] == losses["aux_loss_bbox"] == losses["loss_dfl"] == losses["aux_loss_dfl"] == 0
    total(losses).backward()
    assert all(parameter.grad is not None for parameter in [*head.parameters(), *aux.parameters()])


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        (dict(conv_type="Depthwise"), r"conv_type must be one of DWConv, Conv, but got 'Depthwise'"),
        (dict(kernel_size=4), r"kernel_size must be odd, .* but got 4"),
        (dict(reg_max=0), r"reg_max must be at least 1"),
    ],
)
def test_bad_settings(changes, match):
    with pytest.raises(ValueError, match=match):
        MODELS.build(config("NanoDetPlusHead", **changes))


def test_not_finite_maps_of_the_auxiliary_head():
    head, aux, feats = build("NanoDetPlusHead"), auxiliary(), features()
    aux_maps = aux(feats)
    aux_maps[0][1].data[1, 0, 0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match=r"aux_loss_cls is nan.*aux_cls_logits of level 1 .*image 1"):
        head.loss(feats, samples([3, 2]), aux_maps=aux_maps)
