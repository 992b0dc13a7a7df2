"""AutoAssign: its losses against plain loops, their gradients, their extremes, and what they cost."""

import math

import pytest
import torch
from mmengine.structures import InstanceData

from densehead.models.heads import AutoAssignHead
from densehead.models.heads.inside_pairs import Rectangles
from densehead.models.heads.pair_losses import _giou_loss
from densehead.models.losses import GIoULoss
from densehead.structures import Targets
from tests.memory import PeakMemory, needs_peak_memory
from tests.models.heads import naive_autoassign as naive
from tests.models.heads.heads import CLASSES, build, features, samples, total

SIZES = [(4, 5), (2, 3), (1, 2)]
STRIDES = [8, 16, 32]
SHAPE = (32, 40)
KEYS = ("loss_pos", "loss_neg", "loss_center")


def small(**changes) -> AutoAssignHead:
    """A head of three classes in float64, whose losses weigh 1 each and whose centre priors are not at their start."""
    cfg = dict(num_classes=3, in_channels=4, feat_channels=4, stacked_convs=0, norm_cfg=None, strides=STRIDES)
    cfg |= dict(loss_bbox=dict(type="GIoULoss", loss_weight=2.0))
    cfg |= dict(pos_loss_weight=1.0, neg_loss_weight=1.0, center_loss_weight=1.0)
    head = AutoAssignHead(**(cfg | changes)).double()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        head.center_prior.mean.copy_(torch.randn(3, 2, generator=generator) / 3)
        head.center_prior.sigma.copy_(torch.rand(3, 2, generator=generator) + 0.5)
    return head


def random_maps(seed: int, images: int = 2, scale: float = 1.0) -> list[list[torch.Tensor]]:
    generator = torch.Generator().manual_seed(seed)

    def levels(channels: int) -> list[torch.Tensor]:
        shapes = [(images, channels, *size) for size in SIZES]
        return [torch.randn(shape, generator=generator, dtype=torch.float64) * scale for shape in shapes]

    boxes = [level.abs() * stride for level, stride in zip(levels(4), STRIDES)]
    maps = [levels(3), boxes, levels(1)]
    return [[level.requires_grad_() for level in kind] for kind in maps]


def random_truth(seed: int, counts=(7, 5)) -> list[InstanceData]:
    """Boxes of every size, some without a point inside, many of one class over each other."""
    generator = torch.Generator().manual_seed(seed)
    made = []
    for count in counts:
        centre = torch.rand(count, 2, generator=generator) * torch.tensor([40.0, 32.0])
        half = torch.exp(torch.rand(count, 2, generator=generator) * 3)
        boxes = torch.cat([centre - half, centre + half], -1)
        made.append(InstanceData(bboxes=boxes, labels=torch.randint(0, 3, (count,), generator=generator)))
    return made


def loss(head, maps, truth) -> dict[str, torch.Tensor]:
    return head.loss_by_feat(*maps, truth, [dict(img_shape=SHAPE, pad_shape=SHAPE)] * len(truth))


def by_loops(head, maps, truth) -> dict[str, torch.Tensor]:
    cls, ltrb, objectness = (torch.cat([x.permute(0, 2, 3, 1).flatten(1, 2) for x in kind], 1) for kind in maps)
    priors = head.prior_generator.priors(SIZES)
    prior = head.center_prior
    pairs = [(one.bboxes, one.labels) for one in truth]
    topk = prior.topk if prior.force_topk else 0
    return naive.losses(
        cls, ltrb, objectness[..., 0], priors, pairs, prior.mean, prior.sigma, box_weight=2.0, topk=topk
    )


def gradients(losses, leaves) -> list[torch.Tensor]:
    grads = torch.autograd.grad(sum(losses[key] for key in KEYS), leaves, allow_unused=True)
    return [torch.zeros_like(leaf) if grad is None else grad for grad, leaf in zip(grads, leaves)]


@pytest.mark.parametrize("force_topk", [False, True])
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("counts", [(7, 5), (0, 6), (0, 0)], ids=str)
def test_losses_and_gradients_are_those_of_the_loops(seed, counts, force_topk):
    head, maps, truth = small(force_topk=force_topk, topk=3), random_maps(seed), random_truth(seed, counts)
    leaves = [level for kind in maps for level in kind] + [head.center_prior.mean, head.center_prior.sigma]
    losses, expected = loss(head, maps, truth), by_loops(head, maps, truth)
    for key in KEYS:
        torch.testing.assert_close(losses[key], expected[key], rtol=1e-6, atol=1e-9)
    for grad, reference in zip(gradients(losses, leaves), gradients(expected, leaves)):
        torch.testing.assert_close(grad, reference, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("scale", [1.0, 500.0], ids=["all alike", "best far from the centre"])
def test_pairs_that_no_likelihood_feels_are_left_out(scale, monkeypatch):
    """Sharp centre priors: what lies beside their peaks counts only where it is far more confident."""
    found = []
    heaviest = Rectangles.heaviest
    monkeypatch.setattr(Rectangles, "heaviest", lambda *args: found.append(heaviest(*args)) or found[-1])
    head, maps, truth = small(), random_maps(0), random_truth(0)
    for one in truth:
        one.bboxes[:2] = torch.tensor([-1.0, -1.0, 40.0, 32.0])
    with torch.no_grad():
        head.center_prior.sigma.fill_(0.12)
    maps[2] = [((level.detach() - 3) * scale).requires_grad_() for level in maps[2]]
    losses = loss(head, maps, truth)
    monkeypatch.setattr("densehead.models.heads.autoassign.SLACK", 1e9)
    expected = loss(head, maps, truth)
    (some, _), (everything, _) = found
    assert 0 < len(some) < 0.8 * len(everything)
    leaves = [level for kind in maps for level in kind] + [head.center_prior.mean, head.center_prior.sigma]
    torch.testing.assert_close(losses["loss_pos"], expected["loss_pos"], rtol=1e-12, atol=0)
    for grad, reference in zip(gradients(losses, leaves), gradients(expected, leaves)):
        torch.testing.assert_close(grad, reference, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("shift", [0.0, 30.0, 1000.0])
def test_the_quick_giou_is_that_of_the_loss(shift):
    generator = torch.Generator().manual_seed(0)
    centre, reach = torch.rand(2, 500, 2, generator=generator), torch.rand(2, 500, 4, generator=generator)
    pred, truth = torch.cat([60 * centre - 20 * reach[..., :2], 60 * centre + 20 * reach[..., 2:]], -1).double()
    pred[:5, 2:] = pred[:5, :2]  # without extent
    pred = (pred + shift).requires_grad_()
    module, weight = GIoULoss(loss_weight=5.0), torch.randn(500, generator=generator).double()
    expected = module(pred, truth, reduction_override="none")
    value, of_sides = _giou_loss(pred.detach().unbind(-1), truth.unbind(-1), 5.0, module.eps)
    torch.testing.assert_close(value, expected.detach())
    torch.testing.assert_close(torch.stack(of_sides(weight), -1), torch.autograd.grad(expected, pred, weight)[0])


def test_the_scenes_hold_what_they_are_there_for():
    """Truths of one class that share points, and truths without a point."""
    missed = shared = 0
    for seed in range(4):
        head, truth = small(), random_truth(seed)
        targets = Targets.from_instances(truth)
        rectangles = head.center_prior.rectangles(head.prior_generator.priors(SIZES), targets)
        pairs = rectangles.pairs
        missed += ((rectangles.count() == 0) & targets.is_valid.flatten()).sum().item()
        score = pairs.place * 3 + pairs.of_truth(targets.labels)
        shared += len(score) - len(score.unique())
    assert missed > 3
    assert shared > 10


# the loss of backgrounds treats overlaps and its normaliser as constants
@pytest.mark.parametrize(
    ("key", "names"),
    [
        ("loss_pos", ("cls", "box", "objectness", "mean", "sigma")),
        ("loss_neg", ("cls", "objectness")),
        ("loss_center", ("mean", "sigma")),
    ],
)
@pytest.mark.parametrize("force_topk", [False, True])
def test_gradcheck(key, names, force_topk):
    head, truth = small(force_topk=force_topk), random_truth(1, (4,))
    maps = random_maps(1, images=1)
    sizes = [level.numel() for kind in maps for level in kind]

    def flat(kind):
        return torch.cat([level.detach().flatten() for level in kind])

    start = dict(zip(("cls", "box", "objectness"), map(flat, maps)))
    start |= dict(mean=head.center_prior.mean.detach(), sigma=head.center_prior.sigma.detach())
    del head.center_prior.mean, head.center_prior.sigma

    def function(*values):
        now = start | dict(zip(names, values))
        head.center_prior.mean, head.center_prior.sigma = now["mean"], now["sigma"]
        kinds = [now[name].split(sizes[3 * number : 3 * number + 3]) for number, name in enumerate(start) if number < 3]
        shaped = [[new.view_as(old) for new, old in zip(*pair)] for pair in zip(kinds, maps)]
        return loss(head, shaped, truth)[key]

    assert torch.autograd.gradcheck(function, [start[name].clone().requires_grad_() for name in names])


@pytest.mark.parametrize("magnitude", [50.0, 200.0])
@pytest.mark.parametrize("signs", [(1, 1), (1, -1), (-1, 1), (-1, -1)])
def test_extreme_logits(magnitude, signs):
    """Sure scores, right and wrong: finite in float32, and a positive that all scores deny still pulls them up."""
    head = small().float()
    cls, boxes, objectness = ([x.detach().float() for x in kind] for kind in random_maps(0))
    cls = [torch.full_like(x, signs[0] * magnitude).requires_grad_() for x in cls]
    objectness = [torch.full_like(x, signs[1] * magnitude).requires_grad_() for x in objectness]
    boxes = [(x * 100).requires_grad_() for x in boxes]
    losses = loss(head, [cls, boxes, objectness], random_truth(0))
    total(losses).backward()
    assert all(value.isfinite() for value in losses.values())
    for leaf in [*cls, *boxes, *objectness, *head.center_prior.parameters()]:
        assert leaf.grad.isfinite().all()
    if signs[0] < 0:
        assert sum(leaf.grad.sum() for leaf in cls) < -0.1
    if signs == (1, 1) and magnitude == 50:  # beyond 87 float32 has no number for how sure they are
        assert sum(leaf.grad.sum() for leaf in cls) > 0.1


def test_scores_that_are_sure_and_wrong_have_the_gradient_of_float64():
    """At logits of 18 a float32 score is 1, and the logarithm of the rest would be that of nothing."""
    maps = random_maps(0)
    for kind in (0, 2):
        maps[kind] = [(level.detach() + 18).requires_grad_() for level in maps[kind]]
    singles = [[level.detach().float().requires_grad_() for level in kind] for kind in maps]
    truth = random_truth(0, (0, 0))
    expected = torch.autograd.grad(loss(small(), maps, truth)["loss_neg"], maps[0])
    grads = torch.autograd.grad(loss(small().float(), singles, truth)["loss_neg"], singles[0])
    for grad, reference in zip(grads, expected):
        torch.testing.assert_close(grad, reference.float(), rtol=1e-4, atol=1e-4)


def test_a_truth_without_a_point_costs_what_a_likelihood_of_nothing_does():
    head, maps = small(), random_maps(0, images=1)
    truth = [InstanceData(bboxes=torch.tensor([[1.0, 1.0, 3.0, 3.0]]), labels=torch.tensor([1]))]
    losses = loss(head, maps, truth)
    assert losses["loss_pos"] == 100
    assert losses["loss_center"] == 0
    assert head.last_assignment.num_missed(head.last_targets).tolist() == [1]
    forced = loss(small(force_topk=True), maps, truth)
    assert 0 < forced["loss_pos"] < 100


def test_a_centre_prior_that_is_nowhere_near():
    """Weights are shares of their sum, but of no sum below 1e-12: a centre prior cannot run away for free."""
    head, maps = small(), random_maps(0, images=1)
    with torch.no_grad():
        head.center_prior.mean.fill_(6.0)
        head.center_prior.sigma.fill_(1.0)
    truth = [InstanceData(bboxes=torch.tensor([[6.0, 6.0, 10.0, 10.0]]), labels=torch.tensor([1]))]  # around (8, 8)
    loss_pos = loss(head, maps, truth)["loss_pos"]
    with torch.no_grad():
        head.center_prior.mean.zero_()
    confidence = (-loss(head, maps, truth)["loss_pos"]).exp()
    exponent = 2 * 6.0**2 / 2
    torch.testing.assert_close(loss_pos, -confidence.log() - 3 * confidence + exponent - 12 * math.log(10))


@pytest.mark.parametrize("key", KEYS)
def test_loss_weights(key):
    name = {"loss_pos": "pos_loss_weight", "loss_neg": "neg_loss_weight", "loss_center": "center_loss_weight"}[key]
    maps, truth = random_maps(2), random_truth(2)
    once, thrice = loss(small(), maps, truth), loss(small(**{name: 3.0}), maps, truth)
    for other in KEYS:
        torch.testing.assert_close(thrice[other], once[other] * (3 if other == key else 1))


def test_the_same_twice_and_the_last_truth_has_the_word():
    """Two truths of one class on the same points, with bests of their own: whose share of the scores counts?"""
    head, maps = small(), random_maps(3, images=1)
    boxes = torch.tensor([[1.0, 1.0, 39.0, 31.0], [3.0, 2.0, 30.0, 30.0]])
    truth = [InstanceData(bboxes=boxes, labels=torch.tensor([1, 1]))]
    first = loss(head, maps, truth)
    for key, value in loss(head, maps, truth).items():
        assert torch.equal(value, first[key])
    swapped = loss(head, maps, [truth[0][[1, 0]]])
    torch.testing.assert_close(swapped["loss_pos"], first["loss_pos"])
    torch.testing.assert_close(swapped["loss_neg"], by_loops(head, maps, [truth[0][[1, 0]]])["loss_neg"])
    assert swapped["loss_neg"] != first["loss_neg"]


def test_a_second_backward_gives_the_same():
    head, maps, truth = small(), random_maps(0), random_truth(0)
    losses = total(loss(head, maps, truth))
    first = torch.autograd.grad(losses, maps[0], retain_graph=True)
    kept = [grad.clone() for grad in first]
    second = torch.autograd.grad(3 * losses, maps[0])
    for once, again, old in zip(first, second, kept):
        torch.testing.assert_close(again, 3 * once)
        assert torch.equal(once, old)


def test_what_is_said_to_be_assigned():
    """Every truth with points has its best one unless another truth wants it more; the weights are kept."""
    head, batch = build("AutoAssignHead"), samples([4, 2])
    head.loss(features(), batch)
    assignment, targets = head.last_assignment, head.last_targets
    assert assignment.gt_index.shape == assignment.overlaps.shape == (2, len(head.last_priors))
    positives = assignment.positives(targets)
    points = head.last_priors.points[positives.prior_index]
    assert ((points > positives.boxes[:, :2]) & (points < positives.boxes[:, 2:])).all()
    weight = assignment.overlaps[positives.image_index, positives.prior_index]
    assert (weight > 0).all()
    for image in range(2):
        for truth in range(targets.counts[image]):
            mine = (positives.image_index == image) & (positives.gt_index == truth)
            if mine.any():
                assert weight[mine].min() >= 0.5 * weight[mine].max()
    assert (assignment.overlaps >= 0).all()


def test_positives_lie_around_the_centre_of_a_fresh_head():
    """One box over 96 x 128 pixels whose centre is a point of all three levels: (64, 32)."""
    head = build("AutoAssignHead")
    with torch.no_grad():
        head.conv_cls.bias.fill_(-9.0)  # all equally unsure: the centre prior alone decides
    batch = samples([1])
    batch[0].gt_instances.bboxes[0] = torch.tensor([24.0, 4.0, 104.0, 60.0])
    head.loss(features(images=1), batch)
    chosen = head.last_assignment.is_positive[0]
    assert torch.equal(
        head.last_priors.points[head.last_assignment.overlaps[0].topk(3).indices], torch.tensor([[64.0, 32.0]] * 3)
    )
    distance = (head.last_priors.points[chosen] - torch.tensor([64.0, 32.0])) / head.last_priors.strides[chosen, None]
    assert distance.norm(dim=-1).max() <= 1.2  # exp(-1.2 ** 2 / 2) = 0.49
    assert chosen.sum() == 13  # the centre and its neighbours, of three levels; two of the coarsest lie outside
    assert (head.last_assignment.overlaps[0] > 0).sum() > 13


def test_boxes_and_branches():
    head = build("AutoAssignHead")
    assert {"center_prior.mean", "center_prior.sigma", "conv_centerness.weight", "scales.2.scale"} <= set(
        head.state_dict()
    )
    torch.testing.assert_close(head.conv_cls.bias.sigmoid(), torch.full((CLASSES,), 0.02))
    assert (head.conv_reg.bias == 4).all()
    assert head.cls_convs[0].conv.bias is not None
    cls, boxes, objectness = head(features())
    for stride, level in zip(STRIDES, boxes):
        assert level.dtype == torch.float32
        assert (level >= 0).all()
        torch.testing.assert_close(level.mean(), torch.tensor(4.0 * stride), rtol=0.1, atol=0)
    for training, evaluating in zip(boxes, head.eval()(features())[1]):
        torch.testing.assert_close(training, evaluating)
    assert [level.shape[1] for level in (cls[0], objectness[0])] == [CLASSES, 1]
    assert head.prior_generator.priors([(2, 2)] * 3).points[:3].tolist() == [[0, 0], [8, 0], [0, 8]]


def test_an_assigner_is_refused():
    with pytest.raises(ValueError, match=r"train_cfg.assigner must be absent for AutoAssignHead.*ATSSAssigner"):
        build("AutoAssignHead", train_cfg=dict(assigner=dict(type="ATSSAssigner", topk=9)))


def test_softmax_scores_are_refused():
    with pytest.raises(ValueError, match=r"loss_cls must have use_sigmoid=True for AutoAssignHead"):
        build("AutoAssignHead", loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=False))


def test_keys_without_use_change_nothing():
    unused = dict(norm_on_bbox=True, centerness_on_reg=True, center_sampling=True, regress_ranges=((-1, 1e8),))
    unused |= dict(loss_cls=dict(type="QualityFocalLoss", use_sigmoid=True), train_cfg=dict(pos_weight=3.0))
    plain, other, batch = build("AutoAssignHead"), build("AutoAssignHead", **unused), samples([4, 2])
    other.load_state_dict(plain.state_dict())
    for key, value in plain.loss(features(), batch).items():
        assert torch.equal(other.loss(features(), batch)[key], value)
    detections = [head.loss_and_predict(features(), batch)[1][0].bboxes for head in (plain, other)]
    assert torch.equal(*detections)


@pytest.mark.parametrize("name", ["cls_logits", "box_deltas", "quality_logits"])
def test_a_nan_is_not_lost_among_pairs(name):
    maps = random_maps(0)
    with torch.no_grad():
        maps[AutoAssignHead.map_names.index(name)][0][1, 0, 2, 2] = float("nan")
    truth = [InstanceData(bboxes=torch.tensor([[10.0, 10.0, 20.0, 20.0]]), labels=torch.tensor([0]))] * 2
    with pytest.raises(FloatingPointError, match=rf"{name} of level 0 \(stride 8\) of image 1"):
        loss(small(), maps, truth)


@pytest.mark.parametrize("kind", ["IoULoss", "CIoULoss", "SIoULoss", "BoundedIoULoss", "SmoothL1Loss"])
def test_the_likelihood_of_a_box_is_that_of_any_loss(kind):
    """One truth, one point: the loss is that of its score, its objectness and its box, added."""
    head = small(loss_bbox=dict(type=kind, loss_weight=0.5))
    maps = random_maps(0, images=1)
    box = torch.tensor([[6.0, 6.0, 10.0, 10.0]])  # around (8, 8) alone
    loss_pos = loss(head, maps, [InstanceData(bboxes=box, labels=torch.tensor([1]))])["loss_pos"]
    cls, ltrb, objectness = (kind[0][0, :, 1, 1] for kind in maps)
    pred = torch.stack([8 - ltrb[0], 8 - ltrb[1], 8 + ltrb[2], 8 + ltrb[3]])[None]
    of_box = head.loss_bbox(pred, box.double(), reduction_override="sum")
    torch.testing.assert_close(loss_pos, of_box - cls[1].sigmoid().log() - objectness[0].sigmoid().log())


@needs_peak_memory
class TestCosts:
    SIZES = ((100, 168), (50, 84), (25, 42), (13, 21), (7, 11))  # 800 x 1344 pixels, 22,400 priors

    def peak(self, count: int) -> tuple[float, int]:
        """Peak megabytes of losses and gradients of an image with 20 classes, and the number of pairs."""
        head = AutoAssignHead(20, 8, feat_channels=8, stacked_convs=0, norm_cfg=None, strides=(8, 16, 32, 64, 128))
        generator = torch.Generator().manual_seed(0)
        centre = torch.rand(count, 2, generator=generator) * torch.tensor([1344.0, 800.0])
        half = torch.exp(torch.rand(count, 2, generator=generator) * 5) + 4
        labels = torch.randint(0, 20, (count,), generator=generator)
        truth = [InstanceData(bboxes=torch.cat([centre - half, centre + half], -1), labels=labels)]
        maps = [[torch.rand(1, c, *size) for size in self.SIZES] for c in (20, 4, 1)]
        maps[1] = [level * 4 * 8 * 2**number for number, level in enumerate(maps[1])]
        maps = [[level.requires_grad_() for level in kind] for kind in maps]
        with PeakMemory() as memory:
            losses = head.loss_by_feat(*maps, truth, [dict(img_shape=(800, 1344))])
            total(losses).backward()
        rectangles = head.center_prior.rectangles(head.last_priors, head.last_targets)
        return memory.peak / 1e6, len(rectangles)

    def test_memory_goes_with_the_pairs(self):
        """Besides the maps: at most 400 bytes a pair. One table of priors and truths would take 90 MB more."""
        (base, none), (most, pairs) = self.peak(0), self.peak(1000)
        assert none == 0
        assert pairs > 50_000
        assert most < base + pairs * 400e-6 + 15, f"{most:.0f} MB for {pairs} pairs, {base:.0f} MB without"


@pytest.mark.parametrize("sure", [50.0, 1e4])
def test_many_sure_mistakes_have_a_finite_gradient(sure):
    """Found by fuzzing: the sum over classes of what each is multiplied by overflowed."""
    head = build("AutoAssignHead")
    maps = head(features())
    for cls_logits, _, objectness in zip(*maps):
        cls_logits.data.fill_(sure)
        objectness.data.fill_(sure)
    for level in (*maps[0], *maps[2]):
        level.retain_grad()
    batch = samples([0, 0])
    losses = head.loss_by_feat(*maps, [one.gt_instances for one in batch], [one.metainfo for one in batch])
    total(losses).backward()
    for level in maps[2]:
        assert level.grad.isfinite().all()
        assert (level.grad > 0).all()


def test_a_truth_of_negative_extent_is_no_sure_thing():
    """Found by fuzzing: a negative loss of boxes made a likelihood beyond float32."""
    head = build("AutoAssignHead", strides=(4,), num_classes=1, force_topk=True, topk=1)
    (sample,) = samples([1], img_shape=(4, 4), pad_shape=(4, 4))
    truth = sample.gt_instances
    truth.bboxes, truth.labels = torch.tensor([[3.6786, 2.1300, 1.4171, 0.0283]]), torch.tensor([0])
    maps = torch.zeros(1, 1, 1, 1), torch.tensor([0.0, 0.0, 0.6, 0.0]).view(1, 4, 1, 1), torch.zeros(1, 1, 1, 1)
    losses = head.loss_by_feat(*([one] for one in maps), [truth], [sample.metainfo])
    assert all(value.isfinite() for value in losses.values())
