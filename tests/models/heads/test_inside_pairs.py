"""Pairs of truths and points inside them: equal to looking at every pair."""

from dataclasses import replace

import pytest
import torch
from mmengine.structures import InstanceData
from torch import Tensor

from densehead.models.heads.best_overlaps import best_overlaps
from densehead.models.heads.center_prior import CenterPrior
from densehead.models.heads.inside_pairs import Rectangles, inside_rectangles
from densehead.models.heads.last_of_class import last_of_class
from densehead.models.heads.pairs import Pairs, cut
from densehead.models.priors import MlvlPointGenerator
from densehead.ops import pairwise_iou
from densehead.structures import Priors, Targets
from tests.models.assigners.scenes import SIZES, STRIDES, random_truth

GENERATORS = [MlvlPointGenerator(STRIDES, offset=0), MlvlPointGenerator(STRIDES), MlvlPointGenerator([(8, 4), 16, 32])]


def as_set(rectangles: Rectangles) -> set[tuple[int, int]]:
    pairs = rectangles.pairs
    found = list(zip(pairs.truth.tolist(), pairs.place.tolist()))
    assert len(found) == len(set(found))
    return set(found)


def is_inside(priors: Priors, targets: Targets) -> torch.Tensor:
    """(B, G, P) bool."""
    boxes, points = targets.boxes[:, :, None], priors.points
    return ((points > boxes[..., :2]) & (points < boxes[..., 2:])).all(-1) & targets.is_valid[..., None]


@pytest.mark.parametrize("generator", GENERATORS, ids=["corners", "centres", "oblong"])
@pytest.mark.parametrize("seed", range(6))
def test_pairs_are_those_of_the_dense_table(generator, seed):
    """Every third scene has boxes of whole pixels, on whose sides points lie."""
    priors, targets = generator.priors(SIZES), random_truth(seed)
    image, truth, prior = is_inside(priors, targets).nonzero(as_tuple=True)
    expected = set(zip((image * targets.max_count + truth).tolist(), (image * len(priors) + prior).tolist()))
    assert as_set(inside_rectangles(priors, targets)) == expected


def test_boxes_without_extent_hold_nothing():
    boxes = torch.tensor([[[8.0, 8.0, 8.0, 8.0], [30.0, 30.0, 10.0, 10.0], [-50.0, -50.0, -5.0, -5.0]]])
    targets = random_truth(0, images=1)
    targets = Targets(boxes, torch.zeros(1, 3).long(), torch.ones(1, 3).bool(), boxes, targets.is_valid, (3,))
    assert len(inside_rectangles(GENERATORS[0].priors(SIZES), targets)) == 0


@pytest.mark.parametrize("seed", range(3))
def test_chunks_are_all_pairs_of_some_truths(seed, monkeypatch):
    priors, targets = GENERATORS[0].priors(SIZES), random_truth(seed)
    rectangles = inside_rectangles(priors, targets)
    everything = rectangles.pairs
    monkeypatch.setattr("densehead.models.heads.inside_pairs.PAIRS", 10)
    seen, count = torch.zeros(len(rectangles)), torch.zeros(rectangles.num_truths)
    truth, place = torch.full_like(everything.truth, -1), torch.full_like(everything.place, -1)
    chunks = list(rectangles.chunks())
    for pairs in chunks:
        number = cut(torch.arange(len(rectangles)), pairs.runs)
        truth[number], place[number] = pairs.truth, pairs.place
        seen[number] += 1
        count[pairs.truth.unique()] += 1
        for values, own in ((rectangles.rows[0], pairs.line), (rectangles.columns[0], pairs.column)):
            values = cut(values, pairs.lines) if own is pairs.line else values
            assert torch.equal(rectangles.truth[values[own]], pairs.truth)
    assert len(chunks) > 2
    assert (seen == 1).all()
    assert (count <= 1).all()
    assert torch.equal(truth, everything.truth)
    assert torch.equal(place, everything.place)
    is_inside = torch.zeros(2 * len(priors), dtype=torch.bool).index_fill(0, place, True)
    assert torch.equal(rectangles.is_inside(2 * len(priors)), is_inside)
    assert torch.equal(rectangles.count(), everything.truth.bincount(minlength=rectangles.num_truths))


@pytest.mark.parametrize("seed", range(6))
def test_the_last_truth_of_a_class_at_a_prior(seed, monkeypatch):
    targets = random_truth(seed)
    targets = replace(targets, labels=targets.labels % 3)
    rectangles = inside_rectangles(GENERATORS[0].priors(SIZES), targets)
    pairs, last = rectangles.pairs, {}
    for truth, place, label in zip(*map(Tensor.tolist, (pairs.truth, pairs.place, pairs.of_truth(targets.labels)))):
        last[place, label] = max(truth, last.get((place, label), -1))
    expected = torch.zeros(len(pairs), dtype=torch.bool)
    for number, truth in enumerate(pairs.truth.tolist()):
        expected[number] = last[pairs.place[number].item(), targets.labels.flatten()[truth].item()] == truth
    assert torch.equal(last_of_class(rectangles, targets), expected)
    assert torch.equal(last_of_class(replace(rectangles, level_pairs=None), targets), expected)
    monkeypatch.setattr("densehead.models.heads.last_of_class.PAIRS", 10**9)  # more than there are
    assert torch.equal(last_of_class(rectangles, targets), expected)


def test_sums_of_each_truth():
    """Truth 1 has no pair; truth 0 has the values 1 in one row and 3 in another, truth 2 has 2."""
    truth, line = torch.tensor([0, 2, 0]), torch.arange(3)
    pairs = Pairs(truth, torch.tensor([4, 4, 5]), line, line, truth, torch.ones(3).long(), [], [], 3)
    values = torch.tensor([1.0, 2.0, 3.0])
    assert pairs.sum_of_lines(values).tolist() == [1, 2, 3]
    assert pairs.sum(values).tolist() == [4, 0, 2]
    assert pairs.amax(values).tolist() == [3, -torch.inf, 2]
    assert pairs.amin(values).tolist() == [1, torch.inf, 2]


@pytest.mark.parametrize("seed", range(6))
def test_best_overlaps_are_those_of_the_dense_table(seed, monkeypatch):
    monkeypatch.setattr("densehead.models.heads.best_overlaps.OVERLAPS", 64)  # several pieces
    priors, targets = GENERATORS[0].priors(SIZES), random_truth(seed)
    generator = torch.Generator().manual_seed(seed)
    reach = torch.exp(torch.rand(2, len(priors), 4, generator=generator) * 4)
    boxes = torch.cat([priors.points - reach[..., :2], priors.points + reach[..., 2:]], -1)
    boxes[0, :3, 2:] = boxes[0, :3, :2]  # without extent
    is_asked = torch.rand(2, len(priors), generator=generator) > 0.3
    table = pairwise_iou(boxes, targets.boxes) * targets.is_valid[:, None]
    expected = table.amax(-1) * is_asked if targets.max_count else torch.zeros_like(boxes[..., 0])
    targets.boxes[~targets.is_valid] = torch.tensor([0.0, 0.0, 128.0, 96.0])  # whatever stands in the padding
    torch.testing.assert_close(best_overlaps(boxes, is_asked, priors, targets), expected, rtol=0, atol=0)


class TestForced:
    def random_prior(self, topk: int) -> CenterPrior:
        module = CenterPrior(force_topk=True, topk=topk, num_classes=5)
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            module.mean.copy_(torch.randn(5, 2, generator=generator))
            module.sigma.copy_(torch.rand(5, 2, generator=generator) * 2 + 0.3)
        return module

    def tiny(self, seed: int) -> Targets:
        """Truths, half of which shrink to 2 pixels; whole pixels every third seed, so that there are ties."""
        targets = random_truth(seed)
        centre = (targets.boxes[..., :2] + targets.boxes[..., 2:]) / 2
        targets.boxes[:, ::2] = torch.cat([centre - 1, centre + 1], -1)[:, ::2]
        return targets

    def weights(self, module: CenterPrior, priors: Priors, targets: Targets) -> torch.Tensor:
        """(B * G, P) the logarithm of the weight of every prior."""
        centres = (targets.boxes[..., :2] + targets.boxes[..., 2:]) / 2
        distance = (priors.points - centres[:, :, None]) / priors.strides[:, None] - module.mean[targets.labels][
            :, :, None
        ]
        return -(distance**2 / (2 * module.sigma[targets.labels] ** 2)[:, :, None]).sum(-1).flatten(0, 1).detach()

    @pytest.mark.parametrize("generator", GENERATORS, ids=["corners", "centres", "oblong"])
    @pytest.mark.parametrize("topk", [1, 4, 9, 40])
    @pytest.mark.parametrize("seed", range(4))
    def test_the_heaviest_priors_of_all(self, generator, topk, seed):
        priors, targets, module = generator.priors(SIZES), self.tiny(seed), self.random_prior(topk)
        count, places = targets.max_count, len(priors)
        weights = self.weights(module, priors, targets)
        inside = is_inside(priors, targets).flatten(0, 1)
        rectangles = module.rectangles(priors, targets)
        pairs = rectangles.pairs
        forced = 0
        for truth in range(2 * count):
            mine = (pairs.place[pairs.truth == truth] % places).sort().values
            if inside[truth].any() or not targets.is_valid.flatten()[truth]:
                assert torch.equal(mine, inside[truth].nonzero()[:, 0])
                continue
            forced += 1
            assert len(mine) == topk
            # rounding may swap priors of equal weight
            torch.testing.assert_close(weights[truth, mine].sort().values, weights[truth].topk(topk).values.flip(0))
        assert forced > 2
        as_set(rectangles)
        log_rows, log_columns = module(priors, targets, rectangles)
        found = log_rows[pairs.line] + log_columns[pairs.column]
        torch.testing.assert_close(found, weights[pairs.truth, pairs.place % places], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            rectangles.sum_of_products(log_rows.exp(), log_columns.exp()), pairs.sum(found.exp())
        )

    def test_fewer_priors_than_asked_for(self):
        priors = GENERATORS[0].priors([(1, 2), (1, 1), (0, 0)])
        targets = self.tiny(0)
        rectangles = self.random_prior(9).rectangles(priors, targets)
        assert rectangles.count().max() == 3
        assert all(weights.isfinite().all() for weights in self.random_prior(9)(priors, targets, rectangles))

    def test_no_truth_at_all(self):
        nothing = [InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())] * 2
        priors, targets = GENERATORS[0].priors(SIZES), Targets.from_instances(nothing)
        rectangles = self.random_prior(9).rectangles(priors, targets)
        assert len(rectangles) == len(rectangles.pairs) == rectangles.num_truths == 0

    def test_topk_is_checked(self):
        with pytest.raises(ValueError, match=r"bbox_head.topk must be at least 1, but got 0"):
            CenterPrior(topk=0)

    def test_a_deviation_of_nothing_has_no_nan(self):
        module = self.random_prior(4)
        with torch.no_grad():
            module.sigma.zero_()
        priors, targets = GENERATORS[0].priors(SIZES), self.tiny(1)
        rows, columns = (some.exp() for some in module(priors, targets, module.rectangles(priors, targets)))
        (rows.sum() + columns.sum()).backward()
        assert (rows.isfinite() & (rows <= 1)).all()
        assert columns.isfinite().all()
        assert module.sigma.grad.isfinite().all()
