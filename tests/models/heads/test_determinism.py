"""What PyTorch promises to give the same result twice is all that the heads use."""

import pytest
import torch

from tests.models.heads.heads import CONFIGS, build, features, samples, total

CAN_FILL = hasattr(torch.utils, "deterministic")  # from PyTorch 2.2 on


@pytest.fixture
def deterministic(monkeypatch):
    """Refuse what is not deterministic, and fill memory that is not written (with NaN, the largest integer)."""
    if CAN_FILL:
        monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def run(name, counts):
    """Return losses, gradients and detections."""
    head, feats = build(name), features(requires_grad=True)
    losses = head.loss(feats, samples(counts))
    total(losses).backward()
    found = head.eval().predict(features(), samples(counts))
    detections = [value for one in found for value in (one.bboxes, one.scores, one.labels)]
    return [*losses.values(), *(value.grad for value in [*head.parameters(), *feats]), *detections]


@pytest.mark.parametrize("name", CONFIGS)
@pytest.mark.parametrize("counts", [[4, 2], [0, 3], [0, 0]], ids=str)
def test_deterministic_algorithms_do(name, counts, deterministic):
    first, second = run(name, counts), run(name, counts)
    assert all(value.isfinite().all() for value in first)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


@pytest.mark.skipif(not CAN_FILL, reason="PyTorch 2.1 does not fill memory")
def test_memory_that_is_not_written_is_seen(deterministic):
    assert torch.empty(3).isnan().all()
