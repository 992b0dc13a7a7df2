"""What holds for every head, whatever its paper."""

import copy
import inspect

import pytest
import torch
from mmengine.structures import InstanceData

from densehead.models import DenseHead
from densehead.ops import aligned_iou
from densehead.registry import MODELS
from densehead.structures import IGNORED
from tests.models.heads.heads import (
    ABSTRACT,
    CLASSES,
    CONFIGS,
    HALVES,
    SHAPE,
    build,
    config,
    features,
    samples,
    total,
)

all_heads = pytest.mark.parametrize("name", CONFIGS)
all_but_autoassign = pytest.mark.parametrize("name", [name for name in CONFIGS if "AutoAssign" not in name])
SCORE_LOSSES = {"loss_cls", "loss_neg"}  # what backgrounds are trained by


def test_every_registered_head_is_tested():
    classes = {name: kind for name, kind in MODELS.module_dict.items() if inspect.isclass(kind)}
    registered = {name for name, kind in classes.items() if issubclass(kind, DenseHead)}
    assert registered - ABSTRACT == {cfg["type"] for cfg in CONFIGS.values()}


@all_heads
@pytest.mark.parametrize("counts", [[4, 2], [0, 3], [0, 0], [1, 1], [60, 0]], ids=str)
def test_every_parameter_gets_a_finite_gradient(name, counts):
    head, feats = build(name), features(requires_grad=True)
    losses = head.loss(feats, samples(counts))
    assert all(value.ndim == 0 and value.isfinite() for value in losses.values())
    total(losses).backward()
    for key, parameter in head.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
    assert all(feat.grad.isfinite().all() for feat in feats)


@all_heads
def test_positives_per_image_are_logged_beside_the_losses(name):
    head, batch = build(name), samples([4, 2])
    losses = head.loss(features(), batch)
    assert losses["num_pos"] == head.last_assignment.num_pos.float().mean() > 0
    maps = head(features())
    by_feat = head.loss_by_feat(*maps, [s.gt_instances for s in batch], [s.metainfo for s in batch])
    assert set(by_feat) == {key for key in losses if "loss" in key}


@all_heads
def test_weights_of_the_positives(name):
    """They are what the losses saw of each positive, and none is left of an earlier batch."""
    head = build(name)
    head.loss(features(), samples([4, 2]))
    positives = head.last_assignment.positives(head.last_targets)
    weights = head.positive_weights()
    assert weights.shape == (len(positives),)
    assert not weights.requires_grad
    assert ((weights >= 0) & (weights <= 1 + 1e-6)).all()
    if head.quality_name == "centre-ness":
        points = head.last_priors.points[positives.prior_index]
        left, top = (points - positives.boxes[:, :2]).unbind(1)
        right, bottom = (positives.boxes[:, 2:] - points).unbind(1)
        naive = [
            (min(a, c) / max(a, c) * min(b, d) / max(b, d)) ** 0.5
            for a, b, c, d in torch.stack((left, top, right, bottom), 1).tolist()
        ]
        torch.testing.assert_close(weights, torch.tensor(naive).nan_to_num())
    if head.quality_name == "IoU":
        maps = head(features())
        boxes = head._read(maps, head.last_priors).boxes_at(positives.image_index, positives.prior_index)
        torch.testing.assert_close(weights, aligned_iou(boxes, positives.boxes), atol=2e-6, rtol=1e-4)
    if head.quality_name == "positive weight":
        peaks = [weights[(positives.image_index == i) & (positives.gt_index == 0)].amax() for i in range(2)]
        overlaps = head.last_assignment.overlaps
        assert all(peak == overlaps[i][head.last_assignment.gt_index[i] == 0].amax() for i, peak in enumerate(peaks))
    head.loss(features(), samples([0, 0]))
    assert head.positive_weights().shape == (0,)


@all_heads
def test_what_depends_on_predictions_is_known(name):
    """Other parameters change the assignment, or the weights, of the heads that say so, and of no others."""
    head, seen = build(name), []
    for _ in range(3):
        head.loss(features(), samples([6, 5]))
        seen.append((head.last_assignment.gt_index, head.positive_weights()))
        with torch.no_grad():
            for parameter in head.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    (index, weights), *others = seen
    assert all(torch.equal(index, other) for other, _ in others) != head.assigns_by_predictions
    assert all(torch.equal(weights, other) for _, other in others) != head.quality_is_predicted


@all_heads
def test_without_truth_only_the_scores_are_trained(name):
    losses = build(name).loss(features(), samples([0, 0]))
    of_scores = [value for name, value in losses.items() if name in SCORE_LOSSES]
    others = [value for name, value in losses.items() if name not in SCORE_LOSSES]
    assert all(value > 0 for value in of_scores)
    assert len(others) > 2
    assert all(value == 0 for value in others)


@all_heads
def test_a_batch_of_two_is_two_of_one(name):
    """Each image has the positives that it has alone, and the same detections."""
    head, feats, batch = build(name), features(), samples([4, 3])
    head.loss(feats, batch)
    together = head.last_assignment.gt_index
    detections = head.eval().predict(feats, batch)
    for image in range(2):
        alone = [feat[image : image + 1] for feat in feats]
        head.loss(alone, batch[image : image + 1])
        assert torch.equal(head.last_assignment.gt_index[0], together[image])
        single = head.predict(alone, batch[image : image + 1])[0]
        torch.testing.assert_close(single.bboxes, detections[image].bboxes)
        torch.testing.assert_close(single.scores, detections[image].scores)


@all_but_autoassign  # whose centre loss is a mean over images
def test_the_sum_of_two_images_losses(name):
    """Divided by one number, more than images, the losses of a batch are the sum of its images' losses."""
    head, feats, batch = build(name).double(), [feat.double() for feat in features()], samples([4, 3])
    head._mean_over_ranks = lambda total, minimum: total.new_tensor(8.0, dtype=torch.float64)
    both = head.loss(feats, batch)
    apart = [head.loss([feat[i : i + 1] for feat in feats], batch[i : i + 1]) for i in range(2)]
    for key in both:
        if "loss" in key:
            torch.testing.assert_close(both[key], apart[0][key] + apart[1][key], rtol=1e-5, atol=1e-6)


@all_heads
def test_padding_changes_no_box_loss(name):
    """Cells beyond the padded image are no candidates of anchors, and of points none lies in a box."""
    head, batch = build(name), samples([4, 3])
    maps = head(features())
    truth, metas = [s.gt_instances for s in batch], [s.metainfo for s in batch]
    losses = head.loss_by_feat(*maps, truth, metas)
    padded = [[torch.nn.functional.pad(level, (0, 3, 0, 2)) for level in levels] for levels in maps]
    with_padding = head.loss_by_feat(*padded, truth, metas)
    has_anchors = not head.last_priors.are_points
    assert (head.last_assignment.gt_index == IGNORED).any() == has_anchors
    # points in the padding are backgrounds; VFNet's varifocal loss has no weights, so its anchors there are as well
    leaves_out = has_anchors and not name.startswith("VFNet")
    for key in losses if leaves_out else losses.keys() - SCORE_LOSSES:
        torch.testing.assert_close(losses[key], with_padding[key])


@all_heads
def test_order_of_the_truth_does_not_matter(name):
    head, feats, batch = build(name), features(), samples([6, 5])
    losses = head.loss(feats, batch)
    for sample in batch:
        order = torch.randperm(len(sample.gt_instances), generator=torch.Generator().manual_seed(1))
        sample.gt_instances = sample.gt_instances[order]
    for key, value in head.loss(feats, batch).items():
        torch.testing.assert_close(value, losses[key])


@all_heads
def test_loss_and_predict_agree_with_each_apart(name):
    head, feats, batch = build(name), features(), samples([4, 3])
    losses, detections = head.loss_and_predict(feats, batch)
    for key, value in head.loss(feats, batch).items():
        assert torch.equal(value, losses[key])
    for apart, together in zip(head.eval().predict(feats, batch), detections):
        torch.testing.assert_close(apart.bboxes, together.bboxes)
        torch.testing.assert_close(apart.scores, together.scores)


@all_heads
def test_losses_in_evaluation_mode_are_those_of_training(name):
    head, feats, batch = build(name), features(), samples([4, 3])
    training = head.loss(feats, batch)
    for key, value in head.eval().loss(feats, batch).items():
        torch.testing.assert_close(value, training[key])


@all_heads
@pytest.mark.parametrize("dtype", HALVES)
def test_autocast(name, dtype):
    head, feats, batch = build(name), features(), samples([4, 3])
    expected = head.loss(feats, batch)
    with torch.autocast("cpu", dtype):
        losses = head.loss(feats, batch)
        detections = head.predict(feats, batch)
    for key, value in losses.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, expected[key], rtol=0.02, atol=1e-3)
    total(losses).backward()
    assert all(result.bboxes.isfinite().all() for result in detections)


@all_heads
def test_channels_last_gives_the_same(name):
    head, feats, batch = build(name), features(), samples([4, 3])
    expected = head.loss(feats, batch)
    lying = [feat.to(memory_format=torch.channels_last) for feat in feats]
    for key, value in head.to(memory_format=torch.channels_last).loss(lying, batch).items():
        torch.testing.assert_close(value, expected[key], rtol=1e-4, atol=1e-5)


@all_heads
def test_no_config_of_the_caller_is_changed(name):
    cfg = config(name)
    before = copy.deepcopy(cfg)
    head = MODELS.build(cfg)
    batch = samples([2, 2])
    head.loss_and_predict(features(), batch)
    assert cfg == before


@all_heads
def test_truth_and_metas_are_not_changed(name):
    batch = samples([3, 2])
    before = copy.deepcopy(batch)
    build(name).loss(features(), batch)
    for sample, old in zip(batch, before):
        assert torch.equal(sample.gt_instances.bboxes, old.gt_instances.bboxes)
        assert sample.metainfo == old.metainfo


@all_heads
def test_a_thousand_objects(name):
    losses = build(name).loss(features(), samples([1000, 0]))
    assert total(losses).isfinite()


@all_heads
def test_one_prior(name):
    """A single level of a single cell."""
    head = build(name)
    maps = [[level[..., :1, :1] for level in levels] for levels in head(features())]
    batch = samples([2, 0])
    losses = head.loss_by_feat(*maps, [s.gt_instances for s in batch], [s.metainfo for s in batch])
    assert total(losses).isfinite()
    assert len(head.predict_by_feat(*maps, batch_img_metas=[s.metainfo for s in batch])) == 2


@all_heads
def test_ignored_instances_are_accepted(name):
    batch = samples([3, 2])
    batch[0].ignored_instances = InstanceData(bboxes=torch.tensor([[0.0, 0.0, 60.0, 60.0]]))
    assert total(build(name).loss(features(), batch)).isfinite()


@all_heads
@pytest.mark.parametrize("label", [CLASSES, -1, 10**6])
def test_a_label_outside_the_classes(name, label):
    batch = samples([2, 2])
    batch[1].gt_instances.labels[0] = label
    with pytest.raises(ValueError, match=rf"image 1 .* label {label}.*num_classes={CLASSES}"):
        build(name).loss(features(), batch)


@all_heads
def test_a_sampler_is_refused(name):
    train_cfg = config(name).get("train_cfg", {}) | dict(sampler=dict(type="RandomSampler", num=256))
    with pytest.raises(ValueError, match=r"train_cfg.sampler must be absent or PseudoSampler, but got RandomSampler"):
        build(name, train_cfg=train_cfg)
    build(name, train_cfg=train_cfg | dict(sampler=dict(type="PseudoSampler")))


@all_heads
def test_number_of_classes(name):
    with pytest.raises(ValueError, match=r"num_classes must be at least 1, but got 0"):
        build(name, num_classes=0)


@all_heads
def test_maps_that_do_not_fit_the_strides(name):
    head = build(name)
    maps = [levels[:2] for levels in head(features())]
    batch = samples([2, 2])
    with pytest.raises(ValueError, match=r"3 strides .* 2 feature maps"):
        head.loss_by_feat(*maps, [s.gt_instances for s in batch], [s.metainfo for s in batch])


@all_but_autoassign  # which says why
def test_softmax_scores(name):
    """A softmax over the classes and the background, which stands last."""
    head = build(name, loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False))
    assert head.cls_out_channels == CLASSES + 1
    total(head.loss(features(), samples([3, 2]))).backward()
    scores = head(features())[0]
    detections = head.predict(features(), samples([3, 2]))
    best = max(level.unflatten(1, (-1, CLASSES + 1)).softmax(2)[:, :, :-1].max() for level in scores)
    # a quality can raise a score to its root (PAA) at the most
    assert all(result.scores.max() <= best**0.5 for result in detections if len(result))


@all_but_autoassign  # whose classification terms are its own
def test_pos_weight_weighs_the_positives(name):
    train_cfg = config(name).get("train_cfg", {})
    losses = [
        build(name, train_cfg=train_cfg | dict(pos_weight=weight)).loss(features(), samples([4, 3]))["loss_cls"]
        for weight in (-1, 1.0, 3.0)
    ]
    assert losses[0] == losses[1] < losses[2]


CLASS_LOSSES = {
    "focal": dict(type="FocalLoss"),
    "quality focal": dict(type="QualityFocalLoss"),
    "varifocal": dict(type="VarifocalLoss", use_sigmoid=True),
}
BOX_LOSSES = ["IoULoss", "GIoULoss", "DIoULoss", "CIoULoss", "EIoULoss", "SIoULoss", "BoundedIoULoss"]


@all_heads
@pytest.mark.parametrize("kind", CLASS_LOSSES)
def test_classification_losses_are_interchangeable(name, kind):
    cfg = dict(CLASS_LOSSES[kind], use_sigmoid=True)
    head, feats, batch = build(name, loss_cls=cfg), features(requires_grad=True), samples([4, 0])
    losses = head.loss(feats, batch)
    total(losses).backward()
    assert all(value.isfinite() for value in losses.values())
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


@all_heads
@pytest.mark.parametrize("kind", BOX_LOSSES)
def test_box_losses_are_interchangeable(name, kind):
    head, feats, batch = build(name, loss_bbox=dict(type=kind)), features(requires_grad=True), samples([4, 0])
    losses = head.loss(feats, batch)
    total(losses).backward()
    assert all(value.isfinite() for value in losses.values())
    assert all(parameter.grad.isfinite().all() for parameter in head.parameters())


@all_heads
def test_a_loss_that_does_not_fit_is_refused(name):
    with pytest.raises(ValueError, match=r"bbox_head.loss_cls must be a loss of class scores, .* but got GIoULoss"):
        build(name, loss_cls=dict(type="GIoULoss"))
    with pytest.raises(ValueError, match=r"bbox_head.loss_bbox must be a loss of boxes, .* but got FocalLoss"):
        build(name, loss_bbox=dict(type="FocalLoss"))


@all_heads
def test_a_number_that_is_not_finite_is_found(name):
    head, batch = build(name), samples([4, 3])
    batch[1].set_metainfo(dict(img_path="photos/two.jpg"))
    maps = head(features())
    maps[0][1][1, 0, 2, 3] = float("nan")
    with pytest.raises(FloatingPointError, match=r"loss_\w+ is nan.*level 1 \(stride 16\) of image 1 .*photos/two.jpg"):
        head.loss_by_feat(*maps, [s.gt_instances for s in batch], [s.metainfo for s in batch])


@all_heads
def test_truths_without_a_positive_are_counted(name):
    """Three hundred objects on fewer places: not all can have one."""
    head, batch = build(name), samples([300, 2])
    losses = head.loss(features(), batch)
    index = head.last_assignment.gt_index
    missed = sum(len(s.gt_instances) - len(set(index[i][index[i] >= 0].tolist())) for i, s in enumerate(batch))
    assert losses["num_missed"] == missed / 2 > 0


class TestFCOS:
    def test_towers_may_be_deformable(self):
        head = build("FCOSHead", dcn_on_last_conv=True)
        assert "cls_convs.0.conv.conv_offset.weight" in head.state_dict()
        total(head.loss(features(), samples([3, 2]))).backward()
        assert head.cls_convs[0].conv.conv_offset.weight.grad is not None

    def test_scores_may_be_cosines(self):
        head = build("FCOSHead", cls_predictor_cfg=dict(type="NormedConv2d", tempearture=20))
        assert head.state_dict()["conv_cls.weight"].shape == (CLASSES, 8, 1, 1)
        assert head(features())[0][0].isfinite().all()

    def test_distances_are_in_pixels_out_of_training(self):
        head = build("FCOSHead-plus")
        training = head(features())[1]
        for level, (in_strides, in_pixels) in enumerate(zip(training, head.eval()(features())[1])):
            torch.testing.assert_close(in_strides * [8, 16, 32][level], in_pixels)

    def test_conv_bias_is_checked(self):
        with pytest.raises(ValueError, match=r"conv_bias must be True, False or 'auto', but got 'yes'"):
            build("FCOSHead", conv_bias="yes")

    def test_another_assigner_by_config(self):
        assigner = dict(type="FCOSAssigner", regress_ranges=((-1, 1e8),) * 3)
        head = build("FCOSHead", train_cfg=dict(assigner=assigner))
        head.loss(features(), samples([3, 2]))
        more = head.last_assignment.num_pos.sum()
        head = build("FCOSHead")
        head.loss(features(), samples([3, 2]))
        assert more > head.last_assignment.num_pos.sum()


class TestATSS:
    def test_images_of_their_own_sizes(self):
        """Anchors in an image's padding are ignored, also where the batch is larger than the image."""
        head, batch = build("ATSSHead"), samples([3, 2])
        batch[1].set_metainfo(dict(img_shape=(50, 60), pad_shape=(64, 64)))
        head.loss(features(), batch)
        ignored = head.last_assignment.is_ignored
        assert not ignored[0].any()
        level = ignored[1, : 12 * 16].view(12, 16)
        assert not level[:8, :8].any()
        assert level[8:].all()
        assert level[:, 8:].all()

    def test_anchors_reaching_out_may_be_left_out(self):
        train_cfg = dict(assigner=dict(type="ATSSAssigner", topk=9), allowed_border=0, pos_weight=-1)
        head = build("ATSSHead", train_cfg=train_cfg)
        head.loss(features(), samples([3, 2]))
        boxes = head.last_priors.boxes
        out = (boxes[:, :2] < 0).any(1) | (boxes[:, 2] >= SHAPE[1]) | (boxes[:, 3] >= SHAPE[0])
        assert torch.equal(head.last_assignment.is_ignored[0], out)

    def test_boxes_must_be_decoded(self):
        with pytest.raises(ValueError, match=r"reg_decoded_bbox must be True"):
            build("ATSSHead", reg_decoded_bbox=False)


def test_a_subclass_with_losses_of_its_own():
    """Research code overrides loss_by_feat alone; the rest keeps working."""

    class Mine(MODELS.get("FCOSHead")):
        def loss_by_feat(self, cls_scores, bbox_preds, centernesses, batch_gt_instances, *args):
            return dict(loss_mine=sum(level.sum() for level in cls_scores))

    keys = {key: value for key, value in config("FCOSHead").items() if key != "type"}
    assert set(Mine(**keys).loss(features(), samples([2, 2]))) == {"loss_mine"}
