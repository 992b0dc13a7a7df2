"""Configs of strangers: files that say settings and nothing else, which build only what is registered.

A config in Python is a program. YAML as mmengine reads it makes any object, and ``type`` may be the name of any
function of any package. Here YAML and JSON are read as plain data, and every ``type`` must be of a registry.
"""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from mmengine import registry as roots
from mmengine.config import Config
from mmengine.config.config import BASE_KEY
from mmengine.registry import Registry

from densehead import registry as own
from densehead.arguments import near

SUFFIXES = (".yaml", ".yml", ".json")
SCOPES = ("densehead", "mmdet", "mmengine", "mmcv")
_TYPE_KEYS = ("type", "constructor", "runner_type")  # whose values are looked up in registries
_DEPTH = 20  # of bases of bases


class UnsafeConfigError(ValueError):
    """A config is not read since it could run code, or is no plain data."""


class _PlainLoader(yaml.SafeLoader):
    """YAML of plain data, and of tuples, which configs written by ``Config.dump`` have."""


_PlainLoader.add_constructor(
    "tag:yaml.org,2002:python/tuple", lambda loader, node: tuple(loader.construct_sequence(node, deep=True))
)


def read_safe(path: Path) -> Config:
    """Read a config of YAML or JSON and those that its ``_base_`` names, as plain data.

    Raises:
        FileNotFoundError: a base is not there.
        UnsafeConfigError: another kind of file, one that is no YAML or JSON, or one with templates (``{{ }}``).
    """
    return Config(_read(path, _DEPTH), filename=str(path))


def check_safe(cfg: Mapping, path: Path) -> None:
    """Refuse a config whose use would run code that is not registered with densehead, mmengine or mmcv.

    Raises:
        UnsafeConfigError: names the key.
    """
    if cfg.get("custom_imports"):
        raise UnsafeConfigError(f"--safe: {path} has custom_imports, which run the code of modules. {_trust()}")
    names: set[str] | None = None
    for place, key, value in _settings(cfg, ""):
        if key in ("default_scope", "_scope_") and value not in (*SCOPES, None):
            raise UnsafeConfigError(
                f"--safe: {path}: {place}={value!r} is none of the scopes {', '.join(SCOPES)}. {_trust()}"
            )
        if key in _TYPE_KEYS and value is not None:
            names = names or _registered()
            if not isinstance(value, str) or not _is_harmless(value, names):
                hint = near(str(value), names, count=1)
                raise UnsafeConfigError(
                    f"--safe: {path}: {place}={value!r} names what no registry has, which could be any function of any "
                    f"package.{hint} {_trust()}"
                )


def _trust() -> str:
    return "Read it, and if you trust it, leave out --safe"


def _read(path: Path, depth: int) -> dict:
    if path.suffix not in SUFFIXES:
        raise UnsafeConfigError(
            f"--safe reads configs of {', '.join(SUFFIXES)} only, not {path}, which is a program. {_trust()}"
        )
    if not depth:
        raise UnsafeConfigError(f"{path}: {BASE_KEY} leads from file to file without an end")
    if not path.is_file():
        raise FileNotFoundError(f"{path}: there is no such config file; {BASE_KEY} of another names it")
    content = _parse(path)
    bases = content.pop(BASE_KEY, [])
    merged: dict[str, Any] = {}
    for base in [bases] if isinstance(bases, str) else bases:
        read = _read(path.parent / base, depth - 1)
        if twice := merged.keys() & read.keys():
            raise UnsafeConfigError(f"{path}: two files of {BASE_KEY} have the keys {sorted(twice)}")
        merged.update(read)
    return Config._merge_a_into_b(content, merged)


def _parse(path: Path) -> dict:
    text = path.read_text(encoding="utf-8")
    if re.search(r"\{\{.*\}\}", text):
        raise UnsafeConfigError(
            f"--safe: {path} has templates ({{{{ }}}}), which are not filled in. Write the values there"
        )
    try:
        content = json.loads(text) if path.suffix == ".json" else yaml.load(text, _PlainLoader)
    except (json.JSONDecodeError, yaml.YAMLError, RecursionError) as error:
        raise UnsafeConfigError(f"{path} cannot be read as plain data: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise UnsafeConfigError(f"{path} must hold a mapping of keys to values, but holds a {type(content).__name__}")
    return content


def _settings(value: Any, place: str) -> Iterator[tuple[str, str, Any]]:
    """Yield place, key and value of every entry of every mapping."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            here = f"{place}.{key}" if place else str(key)
            yield here, key, inner
            yield from _settings(inner, here)
    elif isinstance(value, list | tuple):
        for index, inner in enumerate(value):
            yield from _settings(inner, f"{place}[{index}]")


def _is_harmless(name: str, names: set[str]) -> bool:
    """Whether a name is registered, under a scope that is known; or is none of a module either (``type='nms'``)."""
    scope, _, last = name.rpartition(".")
    if scope:
        return scope in SCOPES and last in names
    return last in names or (last.isidentifier() and importlib.util.find_spec(last) is None)


def _registered() -> set[str]:
    """All names of mmengine's and densehead's registries, filled."""
    registries = [one for module in (roots, own) for one in vars(module).values() if isinstance(one, Registry)]
    for one in registries:
        one.import_from_location()
    registries += [child for one in registries for child in one.children.values()]
    return {name for one in registries for name in one.module_dict}
