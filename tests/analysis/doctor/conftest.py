from __future__ import annotations

import pytest

from densehead.analysis.doctor import Severity
from densehead.apis.doctor import DoctorOptions, examine
from tests.analysis.doctor.scenes import write_scene
from tests.engine.tiny import no_default_scope_left, one_thread  # noqa: F401


@pytest.fixture(params=["coco", "voc", "yolo"])
def scene(request, tmp_path):
    """A data set without a fault, in each form."""
    return write_scene(tmp_path / "data", request.param)


@pytest.fixture
def coco(tmp_path):
    """A COCO data set without a fault."""
    return write_scene(tmp_path / "data", "coco")


@pytest.fixture
def voc(tmp_path):
    """A VOC data set without a fault."""
    return write_scene(tmp_path / "data", "voc")


@pytest.fixture
def yolo(tmp_path):
    """A YOLO data set without a fault."""
    return write_scene(tmp_path / "data", "yolo")


@pytest.fixture
def look():
    """Return a function that examines a scene and returns its findings by (check, split)."""

    def examined(scene, **options):
        options = {"try_model": False, "workers": 1, **options}
        checkup, _, _ = examine(scene.cfg, DoctorOptions(**options))
        return {(one.check, one.split): one for one in checkup.findings}

    return examined


@pytest.fixture
def grades():
    """Return a function that says how severe findings are: {check: severity}."""
    return lambda found: {check: Severity(one.severity).name for (check, _), one in found.items()}
