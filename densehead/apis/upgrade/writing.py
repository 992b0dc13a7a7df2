"""Configs as Python text that one can read."""

from __future__ import annotations

import math
from collections.abc import Mapping
from keyword import iskeyword
from typing import Any

WIDTH = 120


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
