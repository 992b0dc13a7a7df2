"""What is wrong with a config or a data set, how bad it is, and what to do about it."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field

from densehead.analysis.doctor.advice import ADVICE

#: Examples that a finding keeps; the page shows the first few, the JSON file all.
EXAMPLES = 1000


class Severity(enum.IntEnum):
    """How bad a finding is."""

    NOTE = 0  # as it may be, but worth knowing
    WARNING = 1  # training works, and perhaps not as well as it could
    ERROR = 2  # training would fail, or learn or measure something wrong


@dataclass(frozen=True)
class Example:
    """One place where something is wrong.

    Attributes:
        file: the file to look into, or a key of the config.
        item: what in it: ``annotation 17``, ``object 3``.
        detail: the numbers.
    """

    file: str
    item: str = ""
    detail: str = ""

    def __str__(self) -> str:
        place = ", ".join(one for one in (shown_path(self.file), self.item) if one)
        return ": ".join(one for one in (place, self.detail) if one)


@dataclass(frozen=True)
class Finding:
    """Something that is wrong, wherever it occurs in a split.

    Attributes:
        check: its name, a key of :data:`~densehead.analysis.doctor.advice.ADVICE`.
        severity: how bad it is.
        what: a sentence that says what was found, without the split.
        split: ``train``, ``val``, ``test``, several of them joined by ``/``; empty where it is about the config.
        count: how many boxes, images, classes, ... it is about.
        total: of how many; None where there is no such number.
        examples: the first places.
        todo: what to do; what :data:`ADVICE` says where it is empty.
    """

    check: str
    severity: Severity
    what: str
    split: str = ""
    count: int = 1
    total: int | None = None
    examples: tuple[Example, ...] = ()
    todo: str = field(default="")

    def __post_init__(self) -> None:
        if not self.todo:
            object.__setattr__(self, "todo", ADVICE[self.check])

    @property
    def share(self) -> float:
        """The part of all that it is about, 1 where that is not known."""
        return self.count / self.total if self.total else 1.0

    def to_dict(self) -> dict:
        """Return it as plain values."""
        return {**asdict(self), "severity": self.severity.name.lower(), "examples": [asdict(e) for e in self.examples]}


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Sort by severity, then by the share of the data that a finding is about."""
    return sorted(findings, key=lambda one: (-one.severity, -one.share))


def examples_of(indices: Iterable[int], describe: Callable[[int], Example]) -> tuple[Example, ...]:
    """Describe the first :data:`EXAMPLES` of ``indices``."""
    return tuple(describe(int(index)) for index, _ in zip(indices, range(EXAMPLES), strict=False))


def graded(share: float, *, warning: float = 0.01, error: float = float("inf")) -> Severity:
    """Return the severity of something that concerns a share of the data: a note below ``warning``."""
    if share >= error:
        return Severity.ERROR
    return Severity.WARNING if share >= warning else Severity.NOTE


def counted(count: int, one: str, many: str | None = None) -> str:
    """Return ``1 box``, ``2,000 boxes``."""
    return f"{count:,} {one if count == 1 else many or f'{one}s'}"


def shown_path(path: str) -> str:
    """Return a path as one would type it here; what is no path of this machine stays."""
    if not os.path.isabs(path):
        return path
    relative = os.path.relpath(path)
    return path if relative.startswith(os.path.join("..", "..")) else relative


def listed(names: Sequence, limit: int = 6) -> str:
    """Write a few names one after the other, and how many more there are."""
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(str(name) for name in names[:limit]) + more
