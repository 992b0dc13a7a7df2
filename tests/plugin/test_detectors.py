"""Whole detectors of densehead and of mmdetection, from the same configs, weights and images, have the same numbers."""

import importlib.util

import pytest

from tests.engine.tiny import ROOT

pytest.importorskip("mmdet", reason="mmdetection is not installed")

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def comparison():
    """``tools/compare_mmdet.py`` as a module."""
    spec = importlib.util.spec_from_file_location("compare_mmdet", ROOT / "tools" / "compare_mmdet.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in ("fcos", "fcos-plus", "atss", "vfnet", "autoassign")]


@pytest.mark.parametrize("name", ["gfl", "paa", *SLOW])
def test_whole_detectors_agree(name, comparison):
    found = comparison.compare(name, seed=1)
    assert found["same_names"]
    assert found["loss"] < 1e-4
    assert found["gradient"] < 1e-3
    assert found["detections"][0] == found["detections"][1] > 20
    assert found["labels"]
    assert found["score"] < 1e-4
    assert found["box"] < 1e-2
