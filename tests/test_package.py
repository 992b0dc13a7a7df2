"""The package as a whole: which way imports point, what it needs, what it registers and what it leaves alone."""

import ast
import json
import os
import re
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest
from mmengine import registry as roots
from mmengine.registry import Registry

import densehead
from densehead import registry
from densehead.arguments import accepted_keys
from densehead.registry import DATASETS, HOOKS, MODELS, DenseheadRegistry
from densehead.version import HEADLESS, check_dependencies, parse_version

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "densehead"

# From what everything stands on to what stands on everything. A module imports from its own group or from groups above.
LAYERS = [
    ("version", "compat", "typing", "arguments", "files", "damage"),
    ("safe_load",),
    ("registry",),
    ("ops",),
    ("structures",),
    ("models.layers",),
    ("models.priors", "models.coders", "models.postprocess", "models.losses", "models.backbones", "models.necks"),
    ("models.foreign",),
    ("models.assigners",),
    ("models.heads",),
    ("models.data_preprocessor",),
    ("models.detectors",),
    ("models",),
    ("visualization",),
    ("datasets", "evaluation"),
    ("analysis",),
    ("engine",),
    ("apis",),
]
COMPILED = ("mmcv.ops", "torchvision.ops")


def modules():
    """Return {name without ``densehead.``: path} of all modules but the package itself."""
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if name:
            found[name] = path
    return found


def imports(path):
    """Return the absolute names of what a file imports, wherever in it but for type checkers."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unread = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and getattr(node.test, "id", None) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    names = set()
    for node in (one for one in ast.walk(tree) if id(one) not in unread):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module)
            names.update(f"{node.module}.{alias.name}" for alias in node.names)
    return names


def within(name, group):
    return name == group or name.startswith(f"{group}.")


def group_of(name):
    groups = [group for layer in LAYERS for group in layer if within(name, group)]
    assert groups, f"densehead.{name} belongs to no layer of this test"
    return max(groups, key=len)


def rank_of(group):
    return next(rank for rank, layer in enumerate(LAYERS) if group in layer)


def test_imports_point_one_way():
    known = modules()
    wrong = []
    for name, path in known.items():
        own = group_of(name)
        for imported in imports(path):
            target = imported.removeprefix("densehead.")
            if not imported.startswith("densehead.") or target not in known:
                continue
            other = group_of(target)
            if other != own and rank_of(other) >= rank_of(own):
                wrong.append(f"densehead.{name} imports densehead.{target}")
    assert not wrong, "\n".join(sorted(wrong))


def test_one_door_to_compiled_operators():
    wrong = []
    for name, path in modules().items():
        if within(name, "ops"):
            continue
        found = [one for one in imports(path) if any(within(one, door) for door in COMPILED)]
        wrong += [f"densehead.{name} imports {one}" for one in found]
    assert not wrong, "\n".join(wrong)


def run_python(code, *args, path=()):
    """Run code in a Python of its own, with ``path`` before all other folders."""
    variables = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    variables["PYTHONPATH"] = os.pathsep.join(map(str, (*path, ROOT)))
    return subprocess.run(
        [sys.executable, "-c", code, *args], env=variables, capture_output=True, text=True, timeout=120, cwd="/"
    )


def make_stub(folder, name, text):
    (folder / name).mkdir()
    (folder / name / "__init__.py").write_text(text)


@pytest.mark.parametrize(
    ("name", "stub", "message"),
    [
        ("mmengine", "__version__ = '0.9.1'", "densehead needs 'mmengine' >= 0.10.0, but found 0.9.1 ("),
        (
            "mmengine",
            "raise ModuleNotFoundError('gone', name='mmengine')",
            "densehead needs the package 'mmengine' (>= 0.10.0), which is not here: pip install onedl-mmengine",
        ),
        ("mmcv", "__version__ = '1.7.2'", "densehead needs 'mmcv' >= 2.0.0, but found 1.7.2 ("),
        (
            "mmcv",
            "raise ModuleNotFoundError('gone', name='mmcv')",
            "densehead needs the package 'mmcv' (>= 2.0.0), which is not here: pip install onedl-mmcv",
        ),
        ("mmcv", "raise ImportError('libGL.so.1: cannot open shared object file')", "opencv-python-headless"),
        ("mmcv", "import nothing_of_this_name", "No module named 'nothing_of_this_name'"),
    ],
)
def test_packages_that_are_missing_or_old(tmp_path, monkeypatch, name, stub, message):
    make_stub(tmp_path, name, stub)
    monkeypatch.syspath_prepend(tmp_path)
    for module in [one for one in sys.modules if within(one, name)]:
        monkeypatch.delitem(sys.modules, module)
    with pytest.raises(ImportError) as error:
        check_dependencies()
    assert message in str(error.value)
    if "needs" in message:
        assert f"pip install onedl-{name}" in str(error.value)


def test_import_without_mmcv_says_what_to_install(tmp_path):
    make_stub(tmp_path, "mmcv", "raise ModuleNotFoundError('gone', name='mmcv')")
    ran = run_python("import densehead", path=[tmp_path])
    assert ran.returncode == 1
    assert ran.stderr.splitlines()[-1].endswith("which is not here: pip install onedl-mmcv")


@pytest.mark.parametrize(("text", "numbers"), [("2.1.0rc1", (2, 1, 0)), ("0.10.12", (0, 10, 12)), ("main", ())])
def test_parse_version(text, numbers):
    assert parse_version(text) == numbers


def test_versions_agree():
    assert parse_version(densehead.__version__)
    ran = subprocess.run(
        [sys.executable, "setup.py", "--version"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert ran.stdout.split()[-1] == densehead.__version__
    assert "headless" in HEADLESS


def test_setup_forces_no_mmcv():
    tree = ast.parse((ROOT / "setup.py").read_text())
    call = next(
        node for node in ast.walk(tree) if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "setup"
    )
    required = next(ast.literal_eval(one.value) for one in call.keywords if one.arg == "install_requires")
    assert not [one for one in required if "mmcv" in one or "mmengine" in one]
    listed = (ROOT / "requirements.txt").read_text()
    assert all(one in listed.splitlines() for one in required)
    assert "onedl-mmcv" in listed
    assert "onedl-mmengine" in listed


IMPORT = """
import json
from mmengine import registry as roots
from mmengine.registry import Registry
def content():
    import mmcv.transforms, mmcv.cnn, mmengine.runner, mmengine.hooks, mmengine.visualization, mmengine.evaluator
    import mmengine.model, mmengine.optim, mmengine.dataset
    return {key: {name: f"{one.__module__}.{getattr(one, '__qualname__', one)}" for name, one in r.module_dict.items()}
            for key, r in vars(roots).items() if isinstance(r, Registry)}
before = content()
import densehead
after = content()
import sys
assert "mmdet" not in sys.modules
print(json.dumps([before, after]))
"""


def test_import_leaves_mmengines_registries_alone():
    ran = run_python(IMPORT)
    assert ran.returncode == 0, ran.stderr
    before, after = json.loads(ran.stdout.splitlines()[-1])
    for kind, classes in before.items():
        added = set(after[kind]) - set(classes)
        assert {name: after[kind][name] for name in classes} == classes
        # mmcv's own layers, where mmcv was not compiled and has none under these names
        assert added <= ({"DCN", "DCNv2"} if kind == "MODELS" else set())


def test_every_root_has_a_child():
    """A root without one makes mmengine warn whenever something is built from it."""
    kinds = [root for root in vars(roots).values() if isinstance(root, Registry)]
    assert len(kinds) > 20
    for root in kinds:
        for scope in ("densehead", "mmdet"):
            assert isinstance(root.children[scope], Registry)


def test_locations_can_be_imported():
    for name in registry.__all__:
        found = getattr(registry, name)
        if isinstance(found, DenseheadRegistry):
            found.import_from_location()


@pytest.mark.parametrize(
    ("kinds", "name", "hint"),
    [
        (MODELS, "FCOSHed", "the densehead::model registry (its parents searched too). Did you mean 'FCOSHead'"),
        (MODELS, "fcoshead", "Did you mean 'FCOSHead'"),
        (
            DATASETS,
            "CocoDataste",
            "the densehead::dataset registry (its parents searched too). Did you mean 'CocoDataset'",
        ),
        (HOOKS, "LogerHook", "Did you mean 'LoggerHook'"),
        (
            MODELS,
            "Xyzzy",
            "the densehead::model registry (its parents searched too). A class of your own must be imported",
        ),
    ],
)
def test_did_you_mean(kinds, name, hint):
    with pytest.raises(KeyError) as error:
        kinds.build({"type": name})
    assert f"{name!r} is not in " in error.value.args[0]
    assert hint in error.value.args[0]
    assert name not in kinds


def test_unknown_key_names_class_and_key():
    with pytest.raises(TypeError, match=r"^stackd: FCOSHead has no such key\..* It takes num_classes, in_channels"):
        MODELS.build({"type": "FCOSHead", "num_classes": 1, "in_channels": 8, "stackd": 2})
    with pytest.raises(TypeError, match=r"^num_classes: FCOSHead cannot be built without it"):
        MODELS.build({"type": "FCOSHead", "in_channels": 8})


def test_accepted_keys_follow_the_parents():
    keys = accepted_keys(MODELS.get("FCOSHead"))
    assert {"num_classes", "regress_ranges", "stacked_convs", "init_cfg"} <= set(keys)
    assert "self" not in keys
    assert accepted_keys(lambda a, *, b=1: a) == ["a", "b"]


BUILD = """
import importlib.util, json, sys
from mmengine.registry import DefaultScope, MODELS
from mmengine.logging import MMLogger
import densehead
MMLogger.get_instance("scopes", log_level="WARNING")
for number, (scope, prefix) in enumerate(json.loads(sys.argv[1])):
    DefaultScope.get_instance(str(number), scope_name=scope)
    model = MODELS.build(dict(
        type=f"{prefix}FCOS",
        backbone=dict(type=f"{prefix}ResNet", depth=18, base_channels=8, init_cfg=dict(type="Kaiming", layer="Conv2d")),
        neck=dict(type="FPN", in_channels=[8, 16, 32, 64], out_channels=16, start_level=1, num_outs=4),
        bbox_head=dict(type="FCOSHead", num_classes=2, in_channels=16, feat_channels=16, strides=[8, 16, 32, 64],
                       regress_ranges=((-1, 8), (8, 16), (16, 32), (32, 1e8)), norm_cfg=dict(type="GN", num_groups=4)),
    ))
    model.init_weights()
    print(DefaultScope.get_current_instance().scope_name, type(model).__module__, type(model.bbox_head).__module__)
print(importlib.util.find_spec("mmdet"))
"""
SCOPES = [("mmdet", ""), ("mmengine", "mmdet."), ("densehead", ""), ("mmdet", "densehead.")]
without_mmdet = pytest.mark.skipif(find_spec("mmdet") is not None, reason="mmdetection keeps its own scope")


@without_mmdet
def test_scopes_are_served_without_a_warning():
    ran = run_python(BUILD, json.dumps(SCOPES))
    assert ran.returncode == 0, ran.stderr
    served = "densehead.models.detectors.named densehead.models.heads.fcos"
    assert ran.stdout.splitlines() == [*(f"{scope} {served}" for scope, _ in SCOPES), "None"]
    assert not re.search("registry|scope", ran.stderr)  # an old mmengine under PyTorch 2.4 warns of something else


@without_mmdet
def test_serving_the_scope_is_not_being_mmdetection():
    assert sys.modules["mmdet.registry"] is registry
    assert DATASETS.root.children["mmdet"].get("CocoDataset") is DATASETS.get("CocoDataset")
    with pytest.raises(ModuleNotFoundError):
        import_module("mmdet")


def test_mmdetection_keeps_its_scope(tmp_path):
    make_stub(tmp_path, "mmdet", "__version__ = '3.3.0'")
    (tmp_path / "mmdet" / "registry.py").write_text(
        "from mmengine.registry import MODELS as ROOT, Registry\n"
        "MODELS = Registry('model', parent=ROOT, scope='mmdet', locations=['mmdet.models'])\n"
    )
    (tmp_path / "mmdet" / "models.py").write_text(
        "from mmdet.registry import MODELS\n@MODELS.register_module()\nclass FCOSHead:\n    pass\n"
    )
    code = (
        "import densehead\nfrom mmengine.registry import MODELS, init_default_scope\ninit_default_scope('mmdet')\n"
        "print(type(MODELS.build(dict(type='FCOSHead'))).__module__)\n"
        "print(MODELS.get('densehead.FCOSHead').__module__)"
    )
    ran = run_python(code, path=[tmp_path])
    assert ran.stdout.split() == ["mmdet.models", "densehead.models.heads.fcos"], ran.stderr
