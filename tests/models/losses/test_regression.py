from __future__ import annotations

import pytest
import torch

from densehead.models.losses import L1Loss, MSELoss, SmoothL1Loss


def test_by_hand():
    pred, target = torch.tensor([[0.0, 1, 5]]), torch.tensor([[0.0, 2, 2]])
    assert L1Loss(reduction="none")(pred, target).tolist() == [[0, 1, 3]]
    assert MSELoss(reduction="none")(pred, target).tolist() == [[0, 1, 9]]
    # beta 2: 1 lies in the quadratic part (1 / 4), 3 in the linear one (3 - 1)
    assert SmoothL1Loss(beta=2.0, reduction="none")(pred, target).tolist() == [[0, 0.25, 2]]


def test_beta_must_be_positive():
    with pytest.raises(ValueError, match="beta of SmoothL1Loss must be above 0, but got 0: type='L1Loss'"):
        SmoothL1Loss(beta=0)
