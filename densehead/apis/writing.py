"""Configs as Python text that one can read."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from keyword import iskeyword
from typing import Any

WIDTH = 120
# The order in which a config is written
SECTIONS = (
    "model",
    "train_dataloader",
    "val_dataloader",
    "test_dataloader",
    "val_evaluator",
    "test_evaluator",
    "tta_model",
    "tta_pipeline",
    "train_cfg",
    "val_cfg",
    "test_cfg",
    "param_scheduler",
    "optim_wrapper",
    "auto_scale_lr",
    "default_scope",
    "custom_imports",
    "default_hooks",
    "custom_hooks",
    "visualizer",
    "log_processor",
    "log_level",
    "env_cfg",
    "randomness",
    "model_wrapper_cfg",
    "find_unused_parameters",
    "compile",
    "runner_type",
    "launcher",
    "experiment_name",
    "work_dir",
    "load_from",
    "resume",
)


class Code(str):
    """Text that is written into a config as it is: a name, or an expression."""

    __slots__ = ()


def in_one_line(value: Any, limit: int = 130) -> str:
    """Return a value as Python text in one line, with dots for what does not fit."""
    try:
        text = _flat(value)
    except ValueError:  # a report can name what a config cannot hold
        text = repr(value)
    return text if len(text) <= limit else text[: limit - 4].rstrip(" ,") + " ..."


def as_text(value: Any, indent: int = 0, used: int = 0) -> str:
    """Return a value as Python text, in lines of 120 characters where that is possible.

    Args:
        value: plain containers, numbers, text, None, or :class:`Code`.
        indent: of the line that it begins in, spaces.
        used: characters of that line that come before and after it.

    Raises:
        ValueError: something else, which has no text.
    """
    flat = _flat(value)
    if indent + used + len(flat) <= WIDTH or not isinstance(value, Mapping | list | tuple) or not value:
        return flat
    inner = " " * (indent + 4)
    if isinstance(value, Mapping):
        entries = [_entry(key, value[key], value, indent + 4) for key in value]
        begin, end = ("dict(", ")") if _is_call(value) else ("{", "}")
    else:
        entries = [as_text(one, indent + 4, 1) for one in value]
        begin, end = "[]" if isinstance(value, list) else "()"
    return begin + "\n" + "".join(f"{inner}{entry},\n" for entry in entries) + " " * indent + end


def _entry(key: Any, value: Any, owner: Mapping, indent: int) -> str:
    begin = f"{key}=" if _is_call(owner) else f"{_flat(key)}: "
    return begin + as_text(value, indent, len(begin) + 1)


def _flat(value: Any) -> str:
    if isinstance(value, Code):
        return str(value)
    if isinstance(value, Mapping):
        if _is_call(value):
            return f"dict({', '.join(f'{key}={_flat(one)}' for key, one in value.items())})"
        return "{" + ", ".join(f"{_flat(key)}: {_flat(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(_flat, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(_flat, value))}{',' * (len(value) == 1)})"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    if value is None or isinstance(value, bool | int | float):
        return repr(value)
    raise ValueError(f"a config cannot hold {value!r} ({type(value).__name__}): it has no text")


def _quoted(text: str) -> str:
    """Return a literal in double quotation marks where that needs no more escapes."""
    literal = repr(text)
    return f'"{literal[1:-1]}"' if literal[0] == "'" and '"' not in text else literal


def _is_call(value: Mapping) -> bool:
    """Tell whether a dict can be written as ``dict(key=...)``."""
    return all(isinstance(key, str) and key.isidentifier() and not iskeyword(key) for key in value)


# ------------------------------------------------------------------------------------------------------ whole configs


def config_text(cfg: Mapping, comments: Sequence[str], variables: Mapping[str, Any] | None = None) -> str:
    """Return a config as the text of a file.

    Args:
        cfg: its sections, in plain containers.
        comments: the lines above it, without ``#``.
        variables: to stand first; sections name them as :class:`Code`.

    Raises:
        ValueError: something in it has no text.
    """
    cfg, found = _with_variables(cfg)
    entries = [*(variables or {}).items(), *found.items(), *cfg.items()]
    blocks = [f"{key} = {as_text(value, used=len(key) + 3)}" for key, value in entries]
    lines = [f"# {comment}".rstrip() for comment in comments]
    for before, block in zip(["\n", *blocks], blocks, strict=False):
        lines += [block] if "\n" not in before + block else ["", block]  # short ones stand together
    return "\n".join(lines) + "\n"


def datasets_of(cfg: Mapping, *splits: str) -> list[dict]:
    """Return the configs of the data sets that are no wrappers.

    Args:
        cfg: the whole config.
        splits: of ``train``, ``val``, ``test``; all if none is named.
    """
    found, queue = [], [cfg.get(f"{split}_dataloader") or {} for split in splits or ("train", "val", "test")]
    while queue:
        node = queue.pop()
        inner = [node["dataset"]] if "dataset" in node else node.get("datasets")
        if inner is None:
            found.append(node)
        else:
            queue += inner
    return found


def _with_variables(cfg: Mapping) -> tuple[dict, dict]:
    """Put what is said several times into variables, so that options can name them."""
    cfg, variables = copy.deepcopy(dict(cfg)), {}
    datasets = datasets_of(cfg)
    roots = {one["data_root"] for one in datasets if "data_root" in one}
    if len(roots) == 1:
        (root,) = roots
        variables["data_root"] = root
        for one in datasets:
            if "data_root" in one:
                one["data_root"] = Code("data_root")
        for key in ("val_evaluator", "test_evaluator"):
            evaluator = cfg.get(key)
            file = evaluator.get("ann_file") if isinstance(evaluator, dict) else None
            if file and root and file.startswith(root):
                evaluator["ann_file"] = Code(f"data_root + {as_text(file.removeprefix(root))}")
    for split in ("train", "test"):
        found = [one["pipeline"] for one in datasets_of(cfg, split) if "pipeline" in one]
        if found and not any(isinstance(one, Code) for one in found):
            variables[f"{split}_pipeline"] = found[0]
            for one in datasets:
                if one.get("pipeline") == found[0]:
                    one["pipeline"] = Code(f"{split}_pipeline")
    for key in ("dataloader", "evaluator"):
        if cfg.get(f"val_{key}") is not None and cfg.get(f"val_{key}") == cfg.get(f"test_{key}"):
            cfg[f"test_{key}"] = Code(f"val_{key}")
    return cfg, variables
