"""The pairs found on grids against the IoUs of all pairs."""

import pytest
import torch

from densehead.models.assigners import candidates
from densehead.models.assigners.overlaps import overlapping_pairs, pairs_on_grids
from densehead.ops import pairwise_iou
from tests.models.assigners.scenes import SIZES, anchor_generator, random_truth, restricted

ANCHORS = anchor_generator(ratios=(0.5, 1.0), scales=(2.0, 4.0))
PRIORS = ANCHORS.priors(SIZES)


def table(pairs, priors, targets):
    """Return (B, G, P) IoUs of the pairs, 0 where there is none; a pair comes once."""
    found = torch.zeros(targets.num_images, targets.max_count, len(priors))
    for some in pairs:
        prior = some.place % len(priors)
        assert torch.equal(some.place // len(priors), some.truth // targets.max_count)
        flat = some.truth * len(priors) + prior
        assert len(flat.unique()) == len(flat)
        found.view(-1)[flat] = some.iou
    return found


def all_overlaps(priors, targets):
    iou = pairwise_iou(targets.boxes, priors.boxes).where(targets.is_valid[..., None], 0)
    mask = priors.valid_mask()
    return iou if mask is None else iou.where(mask[:, None], 0)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("lowest", [1e-6, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("is_cut", [False, True])
def test_none_is_lost(seed, lowest, is_cut, monkeypatch):
    priors, targets = PRIORS, random_truth(seed)
    if is_cut:
        priors = restricted(ANCHORS, priors, [(70, 90), (96, 40)])
        monkeypatch.setattr(candidates, "MAX_PAIRS", 1)  # one ground truth after the other
    expected = all_overlaps(priors, targets)
    found = table(pairs_on_grids(priors, targets, lowest, with_best=True), priors, targets)
    highest = expected.amax(-1, keepdim=True)
    asked = (expected > 0) & (expected >= highest.clamp(max=lowest))
    assert torch.equal(found[asked], expected[asked])
    torch.testing.assert_close(found, expected.where(found > 0, 0))


@pytest.mark.parametrize("seed", range(6))
def test_hardly_any_is_too_many(seed):
    targets = random_truth(seed)
    found = sum(len(pairs.iou) for pairs in pairs_on_grids(PRIORS, targets, 0.1, with_best=False))
    assert found <= 1.02 * (all_overlaps(PRIORS, targets) >= 0.1).sum()


@pytest.mark.parametrize("seed", range(3))
def test_all_that_overlap(seed):
    targets = random_truth(seed)
    is_excluded = torch.rand(targets.num_images, len(PRIORS), generator=torch.Generator().manual_seed(seed)) < 0.3
    expected = all_overlaps(PRIORS, targets)
    assert torch.equal(table(overlapping_pairs(PRIORS, targets, None), PRIORS, targets), expected)
    found = table(overlapping_pairs(PRIORS, targets, is_excluded), PRIORS, targets)
    assert torch.equal(found, expected.where(~is_excluded[:, None], 0))
