"""What a constructor's TypeError means in the words of a config: which key, where, and what was probably meant."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Iterator
from typing import Any

from mmengine import registry as roots
from mmengine.registry import Registry

__all__ = ["accepted_keys", "error_chain", "explain_arguments", "explain_config_error", "near", "walk"]

_UNKNOWN = re.compile(r"([\w.<>]+)\(\) got an unexpected keyword argument '(\w+)'")
_MISSING = re.compile(r"([\w.<>]+)\(\) missing \d+ required [\w-]+ arguments?: (.+)")


def near(name: str, known: Any, count: int = 3) -> str:
    """Return `` Did you mean 'a' or 'b'?`` with the names of ``known`` nearest to ``name``, or nothing."""
    lowered = {str(candidate).lower(): str(candidate) for candidate in known}
    found = [lowered[match] for match in difflib.get_close_matches(name.lower(), lowered, n=count, cutoff=0.6)]
    return f" Did you mean {' or '.join(repr(one) for one in found)}?" if found else ""


def accepted_keys(kind: Any) -> list[str]:
    """Return the keyword arguments of a callable; those of a class's parents too, as far as ``**kwargs`` reach."""
    functions = [kind]
    if inspect.isclass(kind):
        functions = [one.__init__ for one in kind.__mro__ if "__init__" in vars(one)]
    names: dict[str, None] = {}
    for function in functions:
        parameters = list(inspect.signature(function).parameters.values())
        names.update(
            {one.name: None for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
        )
        if not any(one.kind is one.VAR_KEYWORD for one in parameters):
            break
    names.pop("self", None)
    return list(names)


def explain_arguments(error: BaseException, cfg: dict, path: str = "") -> str | None:
    """Say which key of ``cfg`` a constructor did not know or lacked.

    Args:
        error: a :class:`TypeError`, as Python raises it for a call that does not fit.
        cfg: the config dict that was being built, with a ``type``.
        path: where in the whole config the dict stands, such as ``model.bbox_head``; unknown if empty.

    Returns:
        The sentence, or None where the error is not about this dict.
    """
    kind = _resolve(cfg.get("type"))
    text = str(error)
    unknown, missing = _UNKNOWN.search(text), _MISSING.search(text)
    match = unknown or missing
    if kind is None or match is None or not _owns(kind, match.group(1)):
        return None
    name = getattr(kind, "__name__", str(kind))
    prefix = f"{path}." if path else ""
    if unknown:
        key = unknown.group(2)
        if key not in cfg:
            return None
        known = accepted_keys(kind)
        return f"{prefix}{key}: {name} has no such key.{near(key, known)} It takes {', '.join(known)}."
    keys = [key for key in re.findall(r"'(\w+)'", missing.group(2)) if key not in cfg]
    if not keys:
        return None
    return f"{', '.join(prefix + key for key in keys)}: {name} cannot be built without it; set it in the config."


def explain_config_error(error: BaseException, cfg: Any) -> str | None:
    """Look through a whole config for the dict that ``error`` (or what caused it) is about, and say it with its path.

    Returns:
        The sentence, or None where no dict of the config fits the error.
    """
    for one in error_chain(error):
        if not isinstance(one, TypeError):
            continue
        for path, node in walk(cfg):
            text = explain_arguments(one, node, path)
            if text is not None:
                return text
    return None


def error_chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yield the error and what caused it, the outermost first."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def walk(node: Any, path: str = "") -> Iterator[tuple[str, dict]]:
    """Yield (path, dict) of every dict of a config that has a ``type``."""
    if isinstance(node, dict):
        if "type" in node:
            yield path, node
        for key, value in node.items():
            yield from walk(value, f"{path}.{key}" if path else str(key))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from walk(value, f"{path}[{index}]")


def _owns(kind: Any, owner: str) -> bool:
    """Tell whether the function called ``owner`` is the callable or an ``__init__`` of its class and parents."""
    if not inspect.isclass(kind):
        return owner == getattr(kind, "__qualname__", None)
    return owner in {f"{one.__qualname__}.__init__" for one in kind.__mro__}


def _resolve(kind: Any) -> Any:
    """Return the class that the ``type`` of a config stands for, or None; nothing is imported for it."""
    if not isinstance(kind, str):
        return kind
    name = kind.rpartition(".")[2]
    for root in vars(roots).values():
        if isinstance(root, Registry):
            for registry in (*root.children.values(), root):
                if name in registry.module_dict:
                    return registry.module_dict[name]
    return None
