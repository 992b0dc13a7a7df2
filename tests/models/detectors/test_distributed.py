"""Two processes that share the images, some or all of which show nothing, train as one process does."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist

from tests.models.detectors.trainings import CASES, HEADS, LR, build_detector, train, train_rank, weights
from tests.ranks import run_ranks

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch was built without torch.distributed")

# Each loss is a sum over a rank's images, divided by a normaliser's mean over the ranks; the gradients' mean over the
# ranks is then the gradient of one process that has all images. But most normalisers are at least 1 by rank. Where
# nothing is positive anywhere, one process divides the sum by 1 and so does each of two ranks, whose mean is half of
# it: one process at half the learning rate. ATSS and GFL count at least one positive an image, and PAA at least as many
# as images, so theirs stay the same.
COUNTS_IMAGES = ("ATSSHead", "GFLHead", "PAAHead")


def check(heads: list[str], cases: list[str], steps: int) -> None:
    """Train on two ranks; compare them with each other and with one process."""
    ranks = run_ranks(train_rank, heads, cases, steps)
    for head, case in ranks[0]:
        one, other = (rank[head, case] for rank in ranks)
        name = f"{head}, {case}"
        assert torch.equal(one["weights"], other["weights"]), name
        assert one["calls"] == other["calls"], name
        assert one["calls"], name
        assert torch.tensor([one["losses"], other["losses"]]).isfinite().all(), name
        is_halved = case == "both empty" and head not in COUNTS_IMAGES
        alone = build_detector(head)
        start = weights(alone)
        train(alone, case, [0, 1], steps, LR[head] / 2 if is_halved else LR[head])
        moved = weights(alone) - start
        assert moved.norm() > 0.01, name
        assert (one["weights"] - start - moved).norm() < 1e-4 * moved.norm(), name


def test_ranks_of_which_one_is_empty():
    check(HEADS, ["alternating"], steps=3)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_twenty_steps(case):
    check(HEADS, [case], steps=20)
