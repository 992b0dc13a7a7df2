"""Coders, prior generators and losses as mmdetection writes them, in densehead's heads; and its box class."""

import pytest
import torch
from mmengine.structures import InstanceData
from torch import nn

from densehead.models.assigners import ATSSAssigner, BboxOverlaps2D, MaxIoUAssigner, SimOTAAssigner
from densehead.models.coders import DeltaXYWHBBoxCoder, DistancePointBBoxCoder
from densehead.models.foreign import AdaptedPriorGenerator, TensorCoder, build_prior_generator
from densehead.models.losses import FocalLoss, SmoothL1Loss, VarifocalLoss
from densehead.models.priors import AnchorGenerator, MlvlPointGenerator
from densehead.registry import MODELS, TASK_UTILS
from densehead.structures import DetDataSample, Targets
from tests.models.heads.heads import ANCHORS, MANY_ANCHORS, SIZES, STRIDES, build, config, features, samples

torch.set_num_threads(1)


class Boxes:
    """As mmdetection's box class: not a tensor, but has one."""

    def __init__(self, tensor):
        self.tensor = tensor

    def __len__(self):
        return len(self.tensor)


class RowCoder:
    """Takes (N, .) and gives boxes of a class."""

    clip_border = False

    def __init__(self, own):
        self.own = own

    def encode(self, priors, boxes, *args):
        assert priors.ndim == boxes.ndim == 2
        return self.own.encode(priors, boxes, *args)

    def decode(self, priors, values, max_shape=None):
        assert priors.ndim == values.ndim == 2
        return Boxes(self.own.decode(priors, values, max_shape))


class Generator:
    """What heads may know of another framework's generator."""

    def __init__(self, own, wrap=lambda boxes: boxes):
        self.own, self.strides, self.center_offset = own, own.strides, getattr(own, "center_offset", 0.5)
        self.wrap = wrap

    def single_level_grid_priors(self, featmap_size, level_idx, dtype=torch.float32, device="cuda"):
        return self.wrap(self.own.single_level_grid_priors(featmap_size, level_idx, dtype, device))

    def grid_priors(self, featmap_sizes, dtype=torch.float32, device="cuda"):
        return self.own.grid_priors(featmap_sizes, dtype, device)


class PlainLoss(nn.Module):
    """A loss module that is none of densehead's and takes what mmdetection's of the same name takes."""

    def __init__(self, own):
        super().__init__()
        self.own, self.seen = own, []

    def forward(self, pred, target, weight=None, avg_factor=None, reduction_override=None):
        self.seen.append(weight)
        loss = self.own(pred, target, reduction_override="none")
        loss = loss if weight is None else loss * weight  # shapes must fit as they are
        return loss if reduction_override == "none" else loss.sum() / avg_factor


@pytest.fixture
def register():
    made = []

    def add(registry, name, thing):
        registry.register_module(name, module=lambda **kwargs: thing)
        made.append((registry, name))
        return dict(type=name, **({"use_sigmoid": True} if registry is MODELS else {}))

    yield add
    for registry, name in made:
        registry.module_dict.pop(name)


def same_losses(name, batch=(5, 3), expected=None, **changes):
    expected, found = (build(name, **keys).loss(features(), samples(list(batch))) for keys in (expected or {}, changes))
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("name", ["FCOSHead", "ATSSHead-anchors", "GFLHead", "VFNetHead", "PAAHead"])
@pytest.mark.parametrize("rule", ["ATSSAssigner", "SimOTAAssigner"])
def test_a_coder_of_rows_in_every_head(name, rule, register):
    """Rules that go by predictions decode tables of three axes."""
    own = config(name).get("bbox_coder") or dict(type="DistancePointBBoxCoder")
    coder = register(TASK_UTILS, "RowCoder", RowCoder(TASK_UTILS.build(dict(own))))
    keys = dict(topk=9) if rule == "ATSSAssigner" else {}
    train_cfg = dict(assigner=dict(type=rule, **keys), allowed_border=-1)
    scheme = dict(gmm_scheme="paper") if name == "PAAHead" else {}
    changes = dict(train_cfg=train_cfg, **scheme)
    same_losses(name, expected=changes, bbox_coder=coder, **changes)


def test_a_coder_of_rows_where_nothing_is_assigned(register):
    coder = register(TASK_UTILS, "RowCoder", RowCoder(DistancePointBBoxCoder()))
    same_losses("AutoAssignHead", bbox_coder=coder)


def test_a_wrapped_coder_has_any_shape():
    own = DeltaXYWHBBoxCoder()
    coder = TensorCoder(RowCoder(own))
    assert not coder.clip_border
    assert not coder.use_box_type
    for shape in [(0,), (3,), (2, 3), (2, 0, 4), ()]:
        boxes = torch.rand(*shape, 4) * 10 + torch.tensor([0.0, 0.0, 20.0, 20.0])
        deltas = torch.randn(*shape, 4)
        found = coder.decode(boxes, deltas)
        assert found.shape == (*shape, 4)
        torch.testing.assert_close(found, own.decode(boxes, deltas))
    torch.testing.assert_close(coder.decode(boxes, torch.randn(2, 4)).shape, torch.Size([2, 4]))
    with pytest.raises(RuntimeError):
        coder.decode(torch.zeros(3, 4), torch.zeros(2, 4))


@pytest.mark.parametrize("wrap", [lambda boxes: boxes, Boxes])
@pytest.mark.parametrize(
    "own", [AnchorGenerator(**{k: v for k, v in MANY_ANCHORS.items() if k != "type"}), MlvlPointGenerator(STRIDES)]
)
def test_the_priors_of_another_generator(own, wrap, register):
    cfg = register(TASK_UTILS, "OtherGenerator", Generator(own, wrap))
    found, expected = build_prior_generator(cfg), own.priors(SIZES)
    assert isinstance(found, AdaptedPriorGenerator)
    assert found.center_offset == getattr(own, "center_offset", 0.5)
    assert found.num_base_priors == own.num_base_priors
    priors = found.priors(SIZES)
    assert priors.grids == expected.grids
    assert torch.equal(priors.boxes, expected.boxes)
    for one, other in zip(found.grid_priors(SIZES, device="cpu"), own.grid_priors(SIZES, device="cpu"), strict=True):
        assert torch.equal(one, other)


def test_another_generator_in_a_head(register):
    generator = Generator(TASK_UTILS.build(dict(ANCHORS["anchor_generator"])), Boxes)
    same_losses("ATSSHead", anchor_generator=register(TASK_UTILS, "OtherGenerator", generator))


def test_what_generates_no_grids_is_refused(register):
    with pytest.raises(TypeError, match="must be one on grids, such as AnchorGenerator"):
        build_prior_generator(register(TASK_UTILS, "OtherGenerator", RowCoder(None)))


@pytest.mark.parametrize("with_ignored", [False, True])
def test_another_loss_of_rows_of_scores(with_ignored, register):
    """mmdetection's varifocal loss multiplies its (P, C) losses with the weights it gets."""

    class VarifocalLossOfAnother(PlainLoss):
        pass

    VarifocalLossOfAnother.__name__ = "VarifocalLoss"
    loss = register(MODELS, "OtherVarifocalLoss", VarifocalLossOfAnother(VarifocalLoss()))
    assigner = dict(type="MaxIoUAssigner", pos_iou_thr=0.4, neg_iou_thr=0.3 if with_ignored else 0.4)
    train_cfg = dict(assigner=assigner, allowed_border=-1)
    own = dict(loss_cls=dict(type="VarifocalLoss", use_sigmoid=True), train_cfg=train_cfg)
    same_losses("ATSSHead", expected=own, loss_cls=loss, train_cfg=train_cfg)


def test_another_loss_always_gets_weights(register):
    """Some of mmdetection's losses (GHMC) cannot do without."""
    loss = PlainLoss(FocalLoss())
    head = build("FCOSHead", loss_cls=register(MODELS, "OtherFocalLoss", loss))
    loss.forward = lambda rows, labels, weight, avg_factor: loss.seen.append(weight) or rows.sum() * 0
    head.loss(features(), samples([2, 1]))
    assert torch.equal(loss.seen[0], torch.ones(2 * len(head.last_priors)))


@pytest.mark.parametrize("batch", [(5, 3), (0, 0)])
def test_another_loss_of_sides_takes_the_weights_of_boxes(batch, register):
    class SmoothL1LossOfAnother(PlainLoss):
        pass

    SmoothL1LossOfAnother.__name__ = "SmoothL1Loss"
    loss = register(MODELS, "OtherSmoothL1Loss", SmoothL1LossOfAnother(SmoothL1Loss()))
    same_losses("ATSSHead", batch, dict(loss_bbox=dict(type="SmoothL1Loss")), loss_bbox=loss)


# ---- a box class where boxes come in --------------------------------------------------------------------------------


def wrapped(instances):
    return {key: Boxes(value) if key in ("bboxes", "priors") else value for key, value in instances.items()}


def test_truth_of_a_box_class():
    truth = samples([3, 0])
    ignored = [None, wrapped(InstanceData(bboxes=torch.rand(2, 4)))]
    plain = Targets.from_instances([sample.gt_instances for sample in truth], [None, None])

    class Instances(dict):
        __getattr__ = dict.__getitem__

    boxed = [Instances(wrapped(sample.gt_instances)) for sample in truth]
    found = Targets.from_instances(boxed, [None, Instances(ignored[1])])
    assert torch.equal(found.boxes, plain.boxes)
    assert found.ignore_boxes.shape == (2, 2, 4)


@pytest.mark.parametrize(
    "rule", [MaxIoUAssigner(0.5, 0.4), SimOTAAssigner(), ATSSAssigner(9)], ids=lambda r: str(type(r))
)
def test_assigners_take_a_box_class(rule):
    class Instances(dict):
        __getattr__ = dict.__getitem__

    priors = AnchorGenerator([8, 16], ratios=[1.0], scales=[4.0]).priors([(8, 8), (4, 4)])
    boxes = priors.boxes if rule.needs_extent else torch.cat([priors.points, priors.strides[:, None].repeat(1, 2)], 1)
    pred = Instances(priors=boxes, bboxes=priors.boxes, scores=torch.rand(80, 3))
    truth = Instances(bboxes=torch.tensor([[4.0, 4.0, 40.0, 36.0]]), labels=torch.tensor([1]))
    counts = dict(num_level_priors=[64, 16])
    expected = rule.assign(pred, gt_instances=truth, **counts)
    boxed = pred if not rule.needs_extent else Instances(wrapped(pred))
    found = rule.assign(boxed, gt_instances=Instances(wrapped(truth)), **counts)
    assert expected.gt_inds.max() == 1
    assert torch.equal(found.gt_inds, expected.gt_inds)


def test_coders_and_calculators_take_a_box_class():
    boxes, other = torch.tensor([[0.0, 0.0, 8.0, 8.0]]), torch.tensor([[2.0, 0.0, 12.0, 8.0]])
    delta, distance = DeltaXYWHBBoxCoder(), DistancePointBBoxCoder()
    assert torch.equal(delta.encode(Boxes(boxes), Boxes(other)), delta.encode(boxes, other))
    assert torch.equal(delta.decode(Boxes(boxes), other), delta.decode(boxes, other))
    points = torch.tensor([[4.0, 4.0]])
    assert torch.equal(distance.encode(points, Boxes(other)), distance.encode(points, other))
    assert torch.equal(BboxOverlaps2D()(Boxes(boxes), Boxes(other)), BboxOverlaps2D()(boxes, other))


def test_batches_of_a_box_class_are_resized():
    class Rescaled(Boxes):
        def rescale_(self, factors):
            self.tensor = self.tensor * self.tensor.new_tensor(factors).repeat(2)

    resize = MODELS.build(dict(type="BatchSyncRandomResize", random_size_range=(64, 64)))
    resize.input_size = (64, 96)
    sample = DetDataSample(metainfo=dict(img_shape=(32, 32), pad_shape=(32, 32)))
    sample.gt_instances = InstanceData()
    boxes = Rescaled(torch.tensor([[1.0, 2.0, 3.0, 4.0]]))
    sample.gt_instances.set_field(boxes, "bboxes")
    resize(torch.zeros(1, 3, 32, 32), [sample])
    assert sample.gt_instances.bboxes.tensor.tolist() == [[3.0, 4.0, 9.0, 8.0]]
