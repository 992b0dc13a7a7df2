"""Tests of densehead inside mmdetection; they run where mmdet is installed, and say why not elsewhere."""

import pytest
from mmengine.registry import DefaultScope

from tests.engine.tiny import one_thread  # noqa: F401


@pytest.fixture(autouse=True)
def inside_mmdet():
    """As in a program of mmdetection: its scope is the default."""
    with DefaultScope.overwrite_default_scope("mmdet"):
        yield
