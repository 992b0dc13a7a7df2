"""What is particular to VFNet: the star, the refinement, quality targets, and its many keys."""

import math

import pytest
import torch
from mmengine.structures import InstanceData
from torch.nn import functional as F

from densehead.models.heads import base, vfnet
from densehead.models.heads.star import StarConv, star_offsets
from densehead.models.losses import functional
from densehead.registry import MODELS
from tests.models.heads.heads import CLASSES, SHAPE, SIZES, STRIDES, build, features, samples, total
from tests.ops.test_deform_conv import bilinear

GIOU = dict(type="GIoULoss", loss_weight=1.0)
REG_DENOMS = [24, 48, 96]  # upper ends of the ranges, the last one twice the last but one


def distances(batch=2, size=(3, 4), largest=3.0, seed=0):
    return torch.rand(batch, 4, *size, generator=torch.Generator().manual_seed(seed)) * largest


def star_points(x, y, left, top, right, bottom):
    """Row by row, the corners of a box, where lines through the point meet its sides, and the point itself."""
    return [(row, column) for row in (y - top, y, y + bottom) for column in (x - left, x, x + right)]


class TestStar:
    def test_reads_corners_sides_and_point(self):
        x, ltrb = torch.randn(2, 2, 3, 4), distances()
        conv = StarConv(2, 3)
        found = conv(x, star_offsets(ltrb))
        weight = conv.weight.detach().flatten(2)
        for image, row, column in torch.cartesian_prod(*(torch.arange(n) for n in (2, 3, 4))).tolist():
            places = star_points(column, row, *ltrb[image, :, row, column].tolist())
            read = torch.tensor([[bilinear(channel, *place) for place in places] for channel in x[image]])
            expected = torch.einsum("oct,ct->o", weight, read)
            torch.testing.assert_close(found[image, :, row, column].detach(), expected, rtol=1e-4, atol=1e-5)

    def test_boxes_of_three_cells_are_a_plain_convolution(self):
        x, conv = torch.randn(2, 2, 5, 6), StarConv(2, 3)
        offsets = star_offsets(torch.ones(2, 4, 5, 6))
        assert not offsets.any()
        torch.testing.assert_close(conv(x, offsets), F.conv2d(x, conv.weight, padding=1), rtol=1e-4, atol=1e-5)

    def test_by_hand(self):
        """From a point, 1 cell to the left side, 2 up, 3 right, 4 down; taps row by row, y before x."""
        offsets = star_offsets(torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 4, 1, 1)).view(9, 2)
        # the taps of a plain convolution lie one cell off
        expected = [[row, column] for row in (-1.0, 0.0, 3.0) for column in (0.0, 0.0, 2.0)]
        assert offsets.tolist() == expected

    def test_distances_are_in_pixels(self):
        head, ltrb = build("VFNetHead"), distances()
        assert torch.equal(head.star_dcn_offset(ltrb * 16, 0.1, 16), star_offsets(ltrb))

    @pytest.mark.parametrize("factor", [0.0, 0.1, 0.5, 0.8, 1.0])
    def test_gradient_mul_changes_the_gradient_alone(self, factor):
        head, ltrb = build("VFNetHead"), distances().requires_grad_()
        weight = torch.randn(2, 18, 3, 4)
        (whole,) = torch.autograd.grad((star_offsets(ltrb / 8) * weight).sum(), ltrb)
        offsets = head.star_dcn_offset(ltrb, factor, 8)
        assert torch.equal(offsets, star_offsets(ltrb / 8))
        (grad,) = torch.autograd.grad((offsets * weight).sum(), ltrb)
        assert whole.all()
        torch.testing.assert_close(grad, whole * factor)

    def test_weights_have_no_bias_and_are_not_those_of_plain_convolutions(self):
        head = build("VFNetHead")
        names = [name for name in head.state_dict() if "dconv" in name]
        assert names == ["vfnet_reg_refine_dconv.weight", "vfnet_cls_dconv.weight"]
        assert head.vfnet_cls_dconv.weight.std() > 0.1 > 10 * head.vfnet_cls.weight.std() / 2
        assert torch.allclose(head.vfnet_cls.bias.sigmoid(), torch.tensor(0.01))


class TestBoxes:
    @pytest.mark.parametrize(("kind", "units"), [("stride", STRIDES), ("reg_denom", REG_DENOMS)])
    def test_unit_of_the_distances(self, kind, units):
        """exp(scale * bias) units, which the refinement multiplies by exp(scale * bias) again."""
        head = build("VFNetHead", bbox_norm_type=kind)
        for conv in (head.vfnet_reg, head.vfnet_reg_refine):
            torch.nn.init.zeros_(conv.weight)
        torch.nn.init.constant_(head.vfnet_reg.bias, math.log(3))
        torch.nn.init.constant_(head.vfnet_reg_refine.bias, math.log(2))
        torch.nn.init.constant_(head.scales[1].scale, 2.0)
        torch.nn.init.constant_(head.scales_refine[2].scale, 3.0)
        _, initial, refined = head(features())
        for level, (first, factor) in enumerate([(3, 2), (9, 2), (3, 8)]):
            torch.testing.assert_close(initial[level], torch.full_like(initial[level], units[level] * first))
            torch.testing.assert_close(refined[level], initial[level] * factor)

    def test_evaluation_gives_the_refined_boxes_alone(self):
        head = build("VFNetHead")
        scores, _, refined = head(features())
        evaluated = head.eval()(features())
        assert len(evaluated) == 2
        for expected, found in zip((scores, refined), evaluated):
            assert all(torch.equal(one, other) for one, other in zip(expected, found))

    def test_detections_are_the_refined_boxes(self):
        head, maps = build("VFNetHead"), []
        torch.nn.init.constant_(head.vfnet_cls.bias, 0.0)
        for size in SIZES:
            maps.append(torch.full((1, 4, *size), 5.0))
        scores = head([feature[:1] for feature in features()])[0]
        metas = [dict(img_shape=SHAPE)]
        (found,) = head.predict_by_feat(scores, maps, batch_img_metas=metas)
        inside = found.bboxes[(found.bboxes[:, 0] > 0) & (found.bboxes[:, 1] > 0)]
        inside = inside[(inside[:, 2] < SHAPE[1]) & (inside[:, 3] < SHAPE[0])]
        assert len(inside)
        centres = (inside[:, :2] + inside[:, 2:]) / 2
        torch.testing.assert_close(inside[:, 2:] - inside[:, :2], torch.full_like(centres, 10.0))
        assert not (centres % 8).any()  # of anchors, which begin at the image's corner

    def test_detections_while_training_are_those_of_evaluation(self):
        head, feats, batch = build("VFNetHead"), features(), samples([4, 3])
        torch.nn.init.constant_(head.vfnet_cls.bias, 0.0)
        torch.nn.init.constant_(head.vfnet_reg_refine.bias, -1.0)
        _, found = head.loss_and_predict(feats, batch)
        for one, other in zip(found, head.eval().predict(feats, batch)):
            assert len(one)
            assert torch.equal(one.bboxes, other.bboxes)

    def test_refinement_trains_the_first_boxes_through_the_star_only(self):
        for factor in (0.0, 0.1):
            head = build("VFNetHead", gradient_mul=factor)
            head.loss(features(), samples([4, 3]))["loss_bbox_rf"].backward()
            assert head.vfnet_reg_refine.weight.grad.any()
            assert head.vfnet_reg.weight.grad.any() == (factor > 0)

    def test_the_first_boxes_have_a_loss_of_their_own(self):
        head = build("VFNetHead")
        head.loss(features(), samples([4, 3]))["loss_bbox"].backward()
        assert head.vfnet_reg.weight.grad.any()
        assert head.vfnet_reg_refine.weight.grad is None


def iou(a, b):
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return width * height / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height)


def giou(a, b):
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    union = sum(areas) / (1 + iou(a, b))
    return iou(a, b) - (hull - union) / hull


def naive_losses(head, maps, batch):
    """The losses prior by prior, from the assignment alone."""
    rows = [torch.cat([level.detach().flatten(2) for level in levels], 2).mT.double() for levels in maps]
    points, index = head.last_priors.points.tolist(), head.last_assignment.gt_index.tolist()
    boxes, weights = {1: [], 2: []}, {1: [], 2: []}
    targets = torch.zeros_like(rows[0])
    for image, sample in enumerate(batch):
        truth = sample.gt_instances
        for prior, gt in enumerate(index[image]):
            if gt < 0:
                continue
            x, y = points[prior]
            expected = truth.bboxes[gt].tolist()
            for kind in (1, 2):
                left, top, right, bottom = rows[kind][image, prior].tolist()
                box = (x - left, y - top, x + right, y + bottom)
                weights[kind].append(max(iou(box, expected), 1e-6))
                boxes[kind].append(1 - giou(box, expected))
            targets[image, prior, truth.labels[gt]] = weights[2][-1]
    count = max(len(boxes[1]), 1)
    means = {
        kind: sum(w * loss for w, loss in zip(weights[kind], boxes[kind])) / max(sum(weights[kind]), 1)
        for kind in (1, 2)
    }
    loss_cls = functional.varifocal_loss(rows[0], targets, 0.75, 2.0, True).sum() / count
    return dict(loss_cls=loss_cls.item(), loss_bbox=1.5 * means[1], loss_bbox_rf=2.0 * means[2])


class TestLosses:
    @pytest.mark.parametrize("name", ["VFNetHead", "VFNetHead-fcos"])
    @pytest.mark.parametrize("counts", [[4, 3], [0, 2], [0, 0], [30, 1]], ids=str)
    def test_equal_a_loop(self, name, counts):
        head, batch = build(name, bbox_norm_type="stride"), samples(counts)
        torch.nn.init.normal_(head.vfnet_reg.weight, std=0.3)
        torch.nn.init.normal_(head.vfnet_reg_refine.weight, std=0.3)
        maps = head(features())
        found = head.loss_by_feat(*maps, [s.gt_instances for s in batch], [s.metainfo for s in batch])
        for key, expected in naive_losses(head, maps, batch).items():
            assert found[key].item() == pytest.approx(expected, rel=1e-4), key

    def test_qualities_have_no_gradient(self):
        head, batch = build("VFNetHead", gradient_mul=0.0), samples([4, 3])
        head.loss(features(), batch)["loss_cls"].backward()
        assert head.vfnet_reg_refine.weight.grad is None
        assert head.vfnet_cls.weight.grad.any()

    def test_weights_have_no_gradient(self):
        head = build("VFNetHead")
        truth = torch.tensor([[0.0, 0.0, 20.0, 20.0], [5.0, 5.0, 30.0, 40.0]])
        boxes = (truth + torch.tensor([1.0, -2.0, 4.0, 6.0])).requires_grad_()
        loss, weight = head._box_loss(head.loss_bbox, boxes, truth)
        assert not weight.requires_grad
        expected = (weight * functional.giou_loss(boxes, truth, 1e-6)).sum() * 1.5 / weight.sum().clamp(min=1)
        torch.testing.assert_close(*(torch.autograd.grad(value, boxes)[0] for value in (loss, expected)))

    def test_use_vfl_chooses_the_loss(self):
        assert type(build("VFNetHead").loss_cls).__name__ == "VarifocalLoss"
        head = build("VFNetHead", use_vfl=False, loss_cls_fl=dict(type="FocalLoss", use_sigmoid=True, alpha=0.3))
        assert head.loss_cls.alpha == 0.3
        losses = head.loss(features(), samples([4, 3]))
        index = head.last_assignment.gt_index
        labels = torch.full(index.shape, CLASSES)
        for image, sample in enumerate(samples([4, 3])):
            is_positive = index[image] >= 0
            labels[image, is_positive] = sample.gt_instances.labels[index[image, is_positive]]
        rows = torch.cat([level.flatten(2) for level in head(features())[0]], 2).mT
        expected = head.loss_cls(rows.flatten(0, 1), labels.flatten(), avg_factor=(labels < CLASSES).sum())
        torch.testing.assert_close(losses["loss_cls"], expected)

    @pytest.mark.parametrize("kind", ["QualityFocalLoss", "FocalLoss"])
    def test_other_classification_losses(self, kind):
        head = build("VFNetHead", loss_cls=dict(type=kind, use_sigmoid=True))
        total(head.loss(features(), samples([4, 3]))).backward()
        assert all(parameter.grad.isfinite().all() for parameter in head.parameters())

    @pytest.mark.parametrize("use_vfl", [True, False])
    def test_padding_is_background_of_the_varifocal_loss_alone(self, use_vfl):
        """mmdetection hands that loss no weights; the scores in the padding weigh in this sum."""
        head, (sample,) = build("VFNetHead", use_vfl=use_vfl), samples([3])
        sample.set_metainfo(dict(pad_shape=(96, 64)))
        sample.gt_instances.bboxes[:, ::2] *= 0.5
        maps = head([feature[:1] for feature in features()])
        scores = maps[0][0].detach().clone().requires_grad_()
        losses = head.loss_by_feat([scores, *maps[0][1:]], *maps[1:], [sample.gt_instances], [sample.metainfo])
        losses["loss_cls"].backward()
        assert scores.grad[..., :8].all()
        assert scores.grad[..., 8:].any() == use_vfl
        assert head.last_assignment.is_ignored.any()

    def test_ignored_regions_are_no_background(self):
        train_cfg = dict(assigner=dict(type="ATSSAssigner", topk=9, ignore_iof_thr=0.5))
        head, (sample,) = build("VFNetHead", train_cfg=train_cfg), samples([0])
        maps = head([feature[:1] for feature in features()])
        scores = maps[0][0].detach().clone().requires_grad_()
        ignored = InstanceData(bboxes=torch.tensor([[0.0, 0.0, 64.0, 64.0]]))
        truth = InstanceData(bboxes=torch.tensor([[70.0, 70.0, 90.0, 90.0]]), labels=torch.tensor([1]))
        losses = head.loss_by_feat([scores, *maps[0][1:]], *maps[1:], [truth], [sample.metainfo], [ignored])
        losses["loss_cls"].backward()
        assert not scores.grad[0, :, 4, 4].any()
        assert scores.grad[0, :, 11, 15].all()

    def test_normalisers_are_averaged_over_the_ranks(self, monkeypatch):
        """Of two ranks, the other one has three times as many positives, of the same quality."""
        alone = build("VFNetHead").loss(features(), samples([9, 7]))
        monkeypatch.setattr(base, "reduce_mean", lambda value: value * 2)
        shared = build("VFNetHead").loss(features(), samples([9, 7]))
        apart = build("VFNetHead", sync_num_pos=False).loss(features(), samples([9, 7]))
        torch.testing.assert_close(shared["loss_cls"] * 2, alone["loss_cls"])
        torch.testing.assert_close(apart["loss_cls"], alone["loss_cls"])
        for key in ("loss_bbox", "loss_bbox_rf"):
            assert apart[key] == shared[key] < alone[key]

    @pytest.mark.parametrize("sync_num_pos", [True, False])
    def test_without_positives_the_sum_counts(self, sync_num_pos):
        head = build("VFNetHead", sync_num_pos=sync_num_pos)
        losses = head.loss(features(), samples([0, 0]))
        scores = torch.cat([level.flatten() for level in head(features())[0]])
        expected = functional.varifocal_loss(scores, torch.zeros_like(scores), 0.75, 2.0, True).sum()
        torch.testing.assert_close(losses["loss_cls"], expected)


class TestAssigners:
    @pytest.mark.parametrize(
        ("use_atss", "given", "built"),
        [
            (True, None, "ATSSAssigner"),
            (False, None, "FCOSAssigner"),
            (False, "ATSSAssigner", "FCOSAssigner"),
            (True, "MaxIoUAssigner", "MaxIoUAssigner"),
            (False, "MaxIoUAssigner", "MaxIoUAssigner"),
        ],
    )
    def test_rule(self, use_atss, given, built):
        keys = dict(ATSSAssigner=dict(topk=9), MaxIoUAssigner=dict(pos_iou_thr=0.5, neg_iou_thr=0.4))
        train_cfg = dict(assigner=dict(type=given, **keys[given])) if given else None
        head = build("VFNetHead", use_atss=use_atss, train_cfg=train_cfg)
        assert type(head.assigner).__name__ == built

    def test_atss_sees_anchors_at_the_corners_of_cells(self):
        head = build("VFNetHead")
        head.loss(features(), samples([2, 2]))
        priors = head.last_priors
        assert priors.boxes[1].tolist() == [8 - 16, -16, 8 + 16, 16]
        assert torch.equal(priors.points, head._priors(features()).points)

    def test_fcos_sees_the_centres_of_cells(self):
        head = build("VFNetHead-fcos", center_sampling=True, center_sample_radius=0.6)
        head.loss(features(), samples([2, 2]))
        assert head.last_priors.are_points
        assert head.last_priors.points[1].tolist() == [12, 4]
        assert head.assigner.center_sampling
        assert head.assigner.center_sample_radius == 0.6
        assert head.assigner.regress_ranges[1] == (24, 48)

    def test_anchors_may_begin_elsewhere(self):
        generator = dict(type="AnchorGenerator", ratios=[1.0], scales=[4], strides=STRIDES, center_offset=0.5)
        head = build("VFNetHead", anchor_generator=generator)
        head.loss(features(), samples([2, 2]))
        assert head.last_priors.points[1].tolist() == head._priors(features()).points[1].tolist() == [12, 4]

    def test_anchors_reaching_out_may_be_left_out(self):
        train_cfg = dict(assigner=dict(type="ATSSAssigner", topk=9), allowed_border=0)
        head = build("VFNetHead", train_cfg=train_cfg)
        head.loss(features(), samples([3, 2]))
        boxes = head.last_priors.boxes
        out = (boxes[:, :2] < 0).any(1) | (boxes[:, 2] >= SHAPE[1]) | (boxes[:, 3] >= SHAPE[0])
        assert torch.equal(head.last_assignment.is_ignored[0], out)


class TestNumbers:
    def test_a_model_of_half_precision(self):
        head, feats = build("VFNetHead").bfloat16(), [feature.bfloat16() for feature in features()]
        scores, initial, refined = head(feats)
        assert (scores[0].dtype, initial[0].dtype, refined[0].dtype) == (torch.bfloat16, torch.float32, torch.float32)
        losses = head.loss(feats, samples([4, 3]))
        total(losses).backward()
        assert all(parameter.grad.isfinite().all() for parameter in head.parameters())

    def test_the_star_of_a_large_box_is_exact_under_autocast(self):
        head, feats = build("VFNetHead", bbox_norm_type="stride"), features()
        places = []
        head.vfnet_cls_dconv.register_forward_pre_hook(lambda _, given: places.append(given[1]))
        torch.nn.init.constant_(head.vfnet_reg.bias, math.log(301))
        torch.nn.init.zeros_(head.vfnet_reg.weight)
        with torch.autocast("cpu", torch.bfloat16):
            initial = head(feats)[1]
        assert places[0].dtype == torch.float32
        torch.testing.assert_close(places[0], star_offsets(initial[0] / 8))

    def test_nan_is_named_by_the_losses(self):
        feats = features()
        feats[1][1, 0, 2, 3] = torch.nan
        with pytest.raises(FloatingPointError, match=r"loss_cls is nan.*level 1 .*image 1"):
            build("VFNetHead").loss(feats, samples([4, 3]))

    def test_boxes_without_end(self):
        head = build("VFNetHead")
        torch.nn.init.constant_(head.vfnet_reg.bias, 100.0)
        scores, initial, _ = head(features())
        assert initial[0].isinf().all()
        assert all(level.isfinite().all() for level in scores)


class TestKeys:
    def test_more_ranges_than_levels(self):
        """As mmdetection's defaults are for fewer levels than five."""
        anchors = dict(type="AnchorGenerator", ratios=[1.0], scales=[8], strides=STRIDES)
        keys = dict(num_classes=2, in_channels=8, feat_channels=32, strides=STRIDES, anchor_generator=anchors)
        head = MODELS.build(dict(type="VFNetHead", **keys))
        assert head.reg_denoms == [64, 128, 256, 512, 1024]
        assert len(head(features())[0]) == 3

    @pytest.fixture
    def said(self, monkeypatch):
        messages = []
        monkeypatch.setattr(vfnet, "print_log", lambda message, **_: messages.append(message))
        return messages

    def test_strides_that_differ_are_said(self, said):
        build("VFNetHead")
        assert not said
        MODELS.build(dict(type="VFNetHead", num_classes=2, in_channels=8, feat_channels=32))
        (message,) = said
        assert "strides=[4, 8, 16, 32, 64] are not those of bbox_head.anchor_generator, [8, 16, 32, 64, 1" in message

    def test_an_atss_assigner_that_does_not_count_is_said(self, said):
        build("VFNetHead", use_atss=False, train_cfg=dict(assigner=dict(type="ATSSAssigner", topk=9)))
        assert said[0].startswith("bbox_head.use_atss=False: FCOS's rule assigns, not the ATSSAssigner of train_cfg")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (dict(bbox_norm_type="pixels"), r"bbox_norm_type must be 'reg_denom' or 'stride', but got 'pixels'"),
            (dict(reg_decoded_bbox=False), r"reg_decoded_bbox must be True"),
            (dict(regress_ranges=((-1, 64), (64, 1e8))), r"regress_ranges must have one entry a level, but got"),
            (dict(strides=[8, 16]), r"bbox_head.strides, anchor_generator.strides .* must have one entry a level"),
            (dict(strides=[(8, 8), 16, 32]), r"strides of VFNetHead must be numbers"),
            (
                dict(anchor_generator=dict(type="AnchorGenerator", ratios=[0.5, 1.0], scales=[8], strides=STRIDES)),
                r"must make one anchor at a place \(one ratio, one scale\), but makes \[2, 2, 2\]",
            ),
        ],
        ids=str,
    )
    def test_errors(self, changes, message):
        with pytest.raises(ValueError, match=message):
            build("VFNetHead", **changes)
