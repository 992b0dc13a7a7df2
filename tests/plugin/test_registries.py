"""Importing densehead changes nothing of mmdetection's."""

import json
import os
import subprocess
import sys

import pytest

from tests.engine.tiny import ROOT

pytest.importorskip("mmdet", reason="mmdetection is not installed")

CONTENT = """
import json
def content():
    import mmcv.transforms, mmdet.datasets, mmdet.engine, mmdet.evaluation, mmdet.models, mmdet.visualization
    from mmdet import registry
    from mmengine import registry as roots
    from mmengine.registry import Registry
    found = {}
    for home in (registry, roots):
        for key, one in vars(home).items():
            if isinstance(one, Registry):
                classes = {name: f"{kind.__module__}.{getattr(kind, '__qualname__', kind)}"
                           for name, kind in one.module_dict.items()}
                found[f"{home.__name__}.{key}"] = [f"{type(one).__module__}", one.scope, classes]
    return found
"""
ORDERS = {
    "alone": "print(json.dumps(content()))",
    "mmdet first": "content()\nimport densehead\nprint(json.dumps(content()))",
    "densehead first": "import densehead\nprint(json.dumps(content()))",
}


def run_python(code):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([sys.executable, "-W", "ignore", "-c", code], env=env, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def alone():
    found = run_python(CONTENT + ORDERS["alone"])
    assert found["mmdet.registry.MODELS"][2]["GFLHead"] == "mmdet.models.dense_heads.gfl_head.GFLHead"
    return found


@pytest.mark.parametrize("order", ["mmdet first", "densehead first"])
def test_registries_are_as_without_densehead(order, alone):
    found = run_python(CONTENT + ORDERS[order])
    assert found.keys() == alone.keys()
    for key, (kind, scope, classes) in alone.items():
        assert found[key][:2] == [kind, scope]
        assert {name: found[key][2][name] for name in classes} == classes
        # mmcv's own layers, where mmcv was not compiled and has none under these names
        added = found[key][2].keys() - classes.keys()
        assert added <= ({"DCN", "DCNv2"} if key == "mmengine.registry.MODELS" else set())


def test_names_mean_what_they_say():
    from mmdet.registry import MODELS, TASK_UTILS

    import densehead.models  # noqa: F401

    for registry, name in ((MODELS, "GFLHead"), (MODELS, "GIoULoss"), (TASK_UTILS, "ATSSAssigner")):
        assert registry.get(name).__module__.startswith("mmdet.")
        assert registry.get(f"mmdet.{name}").__module__.startswith("mmdet.")
        assert registry.get(f"densehead.{name}").__module__.startswith("densehead.")
