"""Pairs of truths and points inside them: equal to looking at every pair."""

import pytest
import torch
from mmengine.structures import InstanceData

from densehead.models.heads.center_prior import CenterPrior
from densehead.models.heads.inside_pairs import Pairs, best_overlaps, inside_pairs
from densehead.models.priors import MlvlPointGenerator
from densehead.ops import pairwise_iou
from densehead.structures import Priors, Targets
from tests.models.assigners.scenes import SIZES, STRIDES, random_truth

GENERATORS = [MlvlPointGenerator(STRIDES, offset=0), MlvlPointGenerator(STRIDES), MlvlPointGenerator([(8, 4), 16, 32])]


def as_set(pairs: Pairs) -> set[tuple[int, int]]:
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
    assert as_set(inside_pairs(priors, targets)) == expected


def test_boxes_without_extent_hold_nothing():
    boxes = torch.tensor([[[8.0, 8.0, 8.0, 8.0], [30.0, 30.0, 10.0, 10.0], [-50.0, -50.0, -5.0, -5.0]]])
    targets = random_truth(0, images=1)
    targets = Targets(boxes, torch.zeros(1, 3).long(), torch.ones(1, 3).bool(), boxes, targets.is_valid, (3,))
    assert len(inside_pairs(GENERATORS[0].priors(SIZES), targets)) == 0


def test_sums_of_each_truth():
    """Truth 1 has no pair; truth 0 has values 1, 3 and truth 2 has 2."""
    pairs = Pairs(torch.tensor([0, 2, 0]), torch.tensor([4, 4, 5]), 3)
    values = torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    assert pairs.count().tolist() == [2, 0, 1]
    assert pairs.sum(values).tolist() == [4, 0, 2]
    assert pairs.amax(values).tolist() == [3, -torch.inf, 2]
    assert pairs.amin(values).tolist() == [1, torch.inf, 2]
    total = pairs.logsumexp(values)
    torch.testing.assert_close(total, torch.stack([values[[0, 2]].logsumexp(0), torch.tensor(0.0), values[1]]))
    (grad,) = torch.autograd.grad(total.sum(), values)
    torch.testing.assert_close(grad, torch.tensor([0.1192, 1.0, 0.8808]), atol=1e-4, rtol=0)
    huge = pairs.logsumexp(torch.tensor([-1e4, 1e4, -1e4]))
    torch.testing.assert_close(huge, torch.tensor([-1e4 + 0.6931, 0.0, 1e4]))


@pytest.mark.parametrize("seed", range(6))
def test_best_overlaps_are_those_of_the_dense_table(seed, monkeypatch):
    monkeypatch.setattr("densehead.models.heads.inside_pairs.OVERLAPS", 64)  # several pieces
    priors, targets = GENERATORS[0].priors(SIZES), random_truth(seed)
    generator = torch.Generator().manual_seed(seed)
    reach = torch.exp(torch.rand(2, len(priors), 4, generator=generator) * 4)
    boxes = torch.cat([priors.points - reach[..., :2], priors.points + reach[..., 2:]], -1)
    boxes[0, :3, 2:] = boxes[0, :3, :2]  # without extent
    is_asked = torch.rand(2, len(priors), generator=generator) > 0.3
    table = pairwise_iou(boxes, targets.boxes) * targets.is_valid[:, None]
    expected = table.amax(-1) * is_asked if targets.max_count else torch.zeros_like(boxes[..., 0])
    targets.boxes[~targets.is_valid] = torch.tensor([0.0, 0.0, 128.0, 96.0])  # whatever stands in the padding
    torch.testing.assert_close(best_overlaps(boxes, is_asked, targets), expected, rtol=0, atol=0)


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

    @pytest.mark.parametrize("generator", GENERATORS, ids=["corners", "centres", "oblong"])
    @pytest.mark.parametrize("topk", [1, 4, 9, 40])
    @pytest.mark.parametrize("seed", range(4))
    def test_the_heaviest_priors_of_all(self, generator, topk, seed):
        priors, targets, module = generator.priors(SIZES), self.tiny(seed), self.random_prior(topk)
        count, places = targets.max_count, len(priors)
        everything = torch.cartesian_prod(torch.arange(2 * count), torch.arange(places))
        everything = Pairs(everything[:, 0], everything[:, 0] // max(count, 1) * places + everything[:, 1], 2 * count)
        weights = module(priors, targets, everything).view(2 * count, places)
        inside = is_inside(priors, targets).flatten(0, 1)
        pairs = module.pairs(priors, targets)
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
        as_set(pairs)

    def test_fewer_priors_than_asked_for(self):
        priors = GENERATORS[0].priors([(1, 2), (1, 1), (0, 0)])
        targets = self.tiny(0)
        pairs = self.random_prior(9).pairs(priors, targets)
        assert pairs.count().max() == 3
        assert self.random_prior(9)(priors, targets, pairs).isfinite().all()

    def test_no_truth_at_all(self):
        nothing = [InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0).long())] * 2
        pairs = self.random_prior(9).pairs(GENERATORS[0].priors(SIZES), Targets.from_instances(nothing))
        assert len(pairs) == pairs.num_truths == 0

    def test_topk_is_checked(self):
        with pytest.raises(ValueError, match=r"bbox_head.topk must be at least 1, but got 0"):
            CenterPrior(topk=0)

    def test_a_deviation_of_nothing_has_no_nan(self):
        module = self.random_prior(4)
        with torch.no_grad():
            module.sigma.zero_()
        priors, targets = GENERATORS[0].priors(SIZES), self.tiny(1)
        weights = module(priors, targets, module.pairs(priors, targets)).exp()
        weights.sum().backward()
        assert weights.isfinite().all()
        assert module.sigma.grad.isfinite().all()
