"""What an upgrade of a config changed, and what it had to leave."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from densehead.apis.writing import in_one_line


@dataclass
class Report:
    """What was written anew, key by key.

    Attributes:
        changes: (key of mmdetection 2.x, what stands for it today, with its value).
        remarks: (key, text) of what could not be translated, or no longer means quite the same.
        spelled_old: whether one of the changes matters: without it the run would not be what the config says.
    """

    changes: list[tuple[str, str]] = field(default_factory=list)
    remarks: list[tuple[str, str]] = field(default_factory=list)
    spelled_old: bool = False

    def change(self, old: str, new: str, *values: Any, minor: bool = False) -> None:
        """Note that the key ``old`` became ``new``, in which ``{}`` stands for each of ``values``.

        A minor change alone (a key that today's configs sometimes still carry along) does not make a config an old one.
        """
        entry = (old, new.format(*(in_one_line(value) for value in values)))
        if entry not in self.changes:
            self.changes.append(entry)
        self.spelled_old |= not minor

    def lines(self, arrow: str = "->") -> list[str]:
        """Return the changes as text; keys of which the same became share a line."""
        keys: dict[str, list[str]] = {}
        for old, new in self.changes:
            keys.setdefault(new, []).append(old)
        return [f"{', '.join(dict.fromkeys(olds))}  {arrow}  {new}" for new, olds in keys.items()]

    def remark(self, key: str, text: str) -> None:
        """Note what the user has to look at; the same is said once."""
        if (key, text) not in self.remarks:
            self.remarks.append((key, text))


def merge(target: dict, changes: Mapping) -> dict:
    """Put ``changes`` into ``target``, dicts into dicts of the same key; return ``target``."""
    for key, value in changes.items():
        if (
            isinstance(value, Mapping)
            and isinstance(target.get(key), dict)
            and value.get("type")
            in (
                None,
                target[key].get("type"),
            )
        ):
            merge(target[key], value)
        else:
            target[key] = value
    return target


def rename(node: dict, **names: str) -> None:
    """Give keys of a dict, as far as it has them, other names; their order stays."""
    items = [(names.get(key, key), value) for key, value in node.items()]
    node.clear()
    node.update(items)
