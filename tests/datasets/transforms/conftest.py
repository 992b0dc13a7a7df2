from __future__ import annotations

import pytest

from densehead.registry import TRANSFORMS
from tests.datasets.transforms.scenes import make


@pytest.fixture
def results():
    return make()


@pytest.fixture
def build():
    """Build a transform from its config."""
    return lambda kind, **keys: TRANSFORMS.build({"type": kind, **keys})
