"""Registries of densehead: children of mmengine's roots under the scope ``densehead``.

Importing :mod:`densehead` fills them. Three things differ from a plain :class:`mmengine.Registry`:

- A name that is not registered raises a :class:`KeyError` that says which registry was searched and which
  registered names come nearest.
- What a densehead module builds (a head its losses, say) is looked up here first, whatever the default scope is, so
  that a densehead head inside another framework's detector gets densehead's losses and assigners.
- A key that a class does not have, or lacks, raises a :class:`TypeError` that names the class, the key and the nearest
  keys.

Where ``mmdet`` is not installed, its name is served by these registries too: a config with
``default_scope = 'mmdet'`` or with types such as ``'mmdet.FCOSHead'`` runs unchanged. Where it is installed, it keeps
its own scope.
"""

from __future__ import annotations

import importlib.util
import sys
from typing import Any

from mmengine import registry as roots
from mmengine.registry import Registry

from densehead.arguments import explain_arguments, near

__all__ = [
    "DATASETS",
    "DATA_SAMPLERS",
    "EVALUATOR",
    "FUNCTIONS",
    "HOOKS",
    "INFERENCERS",
    "LOG_PROCESSORS",
    "LOOPS",
    "METRICS",
    "MODELS",
    "MODEL_WRAPPERS",
    "OPTIMIZERS",
    "OPTIM_WRAPPERS",
    "OPTIM_WRAPPER_CONSTRUCTORS",
    "PARAM_SCHEDULERS",
    "RUNNERS",
    "RUNNER_CONSTRUCTORS",
    "STRATEGIES",
    "TASK_UTILS",
    "TRANSFORMS",
    "VISBACKENDS",
    "VISUALIZERS",
    "WEIGHT_INITIALIZERS",
    "DenseheadRegistry",
]

SCOPE = "densehead"


class DenseheadRegistry(Registry):
    """A registry that prefers its own entries and answers an unknown name with the nearest ones."""

    def get(self, key: str) -> type:
        """Return the class registered as ``key``.

        Raises:
            KeyError: no such name here or in a parent; the message names the registry and the nearest names.
        """
        try:
            found = super().get(key)
        except RuntimeError:  # newer mmengine raises where older ones return None
            found = None
        if found is None:
            raise KeyError(self._unknown(key))
        return found

    def __contains__(self, key: str) -> bool:
        try:
            return self.get(key) is not None
        except KeyError:
            return False

    def build(self, cfg: dict, *args, **kwargs) -> Any:
        """Build an instance from a config dict, from this registry first and from the default scope's next."""
        if isinstance(cfg, dict):
            kind = cfg.get("type")
            if isinstance(kind, str) and "." not in kind and "_scope_" not in cfg:
                self.import_from_location()
                if kind in self._module_dict:
                    cfg = dict(cfg, _scope_=SCOPE)
        try:
            return super().build(cfg, *args, **kwargs)
        except TypeError as error:
            text = explain_arguments(error, cfg)
            if text is None:
                raise
            raise TypeError(text) from error

    def _unknown(self, key: str) -> str:
        """Say which registry was searched for ``key`` and which of its names come nearest."""
        name = key.rpartition(".")[2]
        known: dict[str, None] = {}
        registry: Registry | None = self
        while registry is not None:
            known.update(dict.fromkeys(registry._module_dict))
            registry = registry.parent
        return (
            f"{key!r} is not in the {self.scope}::{self.name} registry (its parents searched too).{near(name, known)} "
            "A class of your own must be imported before it is built: custom_imports = dict(imports=['your.module'])."
        )


def _child(root: Registry, *locations: str) -> DenseheadRegistry:
    return DenseheadRegistry(root.name, parent=root, scope=SCOPE, locations=list(locations))


MODELS = _child(roots.MODELS, "densehead.models")
TASK_UTILS = _child(roots.TASK_UTILS, "densehead.models")
DATASETS = _child(roots.DATASETS, "densehead.datasets")
DATA_SAMPLERS = _child(roots.DATA_SAMPLERS, "densehead.datasets")
TRANSFORMS = _child(roots.TRANSFORMS, "densehead.datasets")
METRICS = _child(roots.METRICS, "densehead.evaluation")
EVALUATOR = _child(roots.EVALUATOR, "densehead.evaluation")
HOOKS = _child(roots.HOOKS, "densehead.engine")
LOOPS = _child(roots.LOOPS, "densehead.engine")
RUNNERS = _child(roots.RUNNERS, "densehead.engine")
RUNNER_CONSTRUCTORS = _child(roots.RUNNER_CONSTRUCTORS, "densehead.engine")
STRATEGIES = _child(roots.STRATEGIES, "densehead.engine")
OPTIMIZERS = _child(roots.OPTIMIZERS, "densehead.engine")
OPTIM_WRAPPERS = _child(roots.OPTIM_WRAPPERS, "densehead.engine")
OPTIM_WRAPPER_CONSTRUCTORS = _child(roots.OPTIM_WRAPPER_CONSTRUCTORS, "densehead.engine")
PARAM_SCHEDULERS = _child(roots.PARAM_SCHEDULERS, "densehead.engine")
LOG_PROCESSORS = _child(roots.LOG_PROCESSORS, "densehead.engine")
MODEL_WRAPPERS = _child(roots.MODEL_WRAPPERS, "densehead.engine")
WEIGHT_INITIALIZERS = _child(roots.WEIGHT_INITIALIZERS, "densehead.models")
FUNCTIONS = _child(roots.FUNCTIONS, "densehead.datasets")
INFERENCERS = _child(roots.INFERENCERS, "densehead.apis")
VISUALIZERS = _child(roots.VISUALIZERS, "densehead.visualization")
VISBACKENDS = _child(roots.VISBACKENDS, "densehead.visualization")


def _serve_mmdet_scope() -> None:
    """Let the scope ``mmdet`` mean densehead's registries, where the real one cannot be imported.

    mmengine imports ``<scope>.registry`` before it looks a scope up; the entry in ``sys.modules`` answers that import
    and no other (``import mmdet`` still fails, as it should).
    """
    if "mmdet" in sys.modules or "mmdet.registry" in sys.modules or importlib.util.find_spec("mmdet") is not None:
        return
    for registry in list(globals().values()):
        if isinstance(registry, DenseheadRegistry) and registry.scope == SCOPE:
            twin = DenseheadRegistry(
                registry.name, parent=registry.parent, scope="mmdet", locations=list(registry._locations)
            )
            twin._module_dict = registry._module_dict
    sys.modules["mmdet.registry"] = sys.modules[__name__]


_serve_mmdet_scope()
