from __future__ import annotations

import pytest
import torch

from densehead.registry import MODELS
from tests.engine.tiny import tiny_config


@pytest.fixture
def config(tmp_path, data_root):
    return tiny_config(tmp_path, data_root)


@pytest.fixture
def checkpoint(config, tmp_path):
    """Weights that detect something everywhere."""
    torch.manual_seed(0)
    model = MODELS.build(config.model)
    model.init_weights()
    torch.save({"state_dict": model.state_dict()}, tmp_path / "weights.pth")
    return str(tmp_path / "weights.pth")
