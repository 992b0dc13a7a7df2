"""The page: findings, the worst first, and what there is to know besides."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from densehead.analysis.doctor.findings import Finding, Severity, counted, worst_first
from densehead.evaluation.tables import format_table

WIDTH = 118
#: Examples of a finding on the page.
SHOWN = 3
_TITLES = {
    Severity.ERROR: ("Errors", "training would fail, or learn or measure something wrong"),
    Severity.WARNING: ("Warnings", "training works, but perhaps not as well as it could"),
    Severity.NOTE: ("Notes", "as it may be, but worth knowing"),
}
_COLORS = {Severity.ERROR: "1;31", Severity.WARNING: "1;33", Severity.NOTE: "1;36"}


@dataclass(frozen=True)
class Section:
    """A table at the end of the page.

    Attributes:
        name: its key in the JSON file.
        title: its heading.
        header, rows: the table; without a header, rows are names and texts.
        notes: lines below it.
        data: the same for programs.
    """

    name: str
    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    notes: Sequence[str] = ()
    data: Any = None


@dataclass
class Checkup:
    """All that the doctor has to say about a config.

    Attributes:
        config: the config file.
        findings: in any order.
        sections: tables, in the order of the page.
    """

    config: str
    findings: list[Finding] = field(default_factory=list)
    sections: list[Section] = field(default_factory=list)

    def count(self, severity: Severity) -> int:
        """Return the number of findings of a severity."""
        return sum(one.severity is severity for one in self.findings)

    def to_dict(self) -> dict:
        """Return it as plain values, the worst first."""
        return {
            "config": self.config,
            "counts": {one.name.lower(): self.count(one) for one in sorted(Severity, reverse=True)},
            "findings": [one.to_dict() for one in worst_first(self.findings)],
            **{section.name: section.data for section in self.sections},
        }


def render(checkup: Checkup, *, colored: bool = False) -> str:
    """Write the page.

    Args:
        checkup: what it says.
        colored: whether headings have colours (of terminals).
    """
    by_name = {section.name: section for section in checkup.sections}
    lines = [_paint(f"Checkup of {printable(checkup.config)}", "1", colored), ""]
    if "splits" in by_name:
        lines += [*_table(by_name.pop("splits")), ""]
    lines.append(_verdict(checkup))
    for severity in sorted(Severity, reverse=True):
        found = [one for one in worst_first(checkup.findings) if one.severity is severity]
        if found:
            title, meaning = _TITLES[severity]
            lines += ["", f"{_paint(title, _COLORS[severity], colored)}: {meaning}"]
            lines += [line for one in found for line in ("", *_finding(one, colored))]
    for section in by_name.values():
        lines += ["", _paint(section.title, "1", colored), *_table(section)]
        lines += [line for note in section.notes for line in _wrapped(note, "  ")]
    return "\n".join(lines) + "\n"


def headline(finding: Finding) -> str:
    """Return ``train: 2 of 205 images are not there``."""
    split = f"{finding.split}: " if finding.split else ""
    what = finding.what
    if finding.total is None and finding.count == 1:
        return f"{split}{what}"
    number = f"{finding.count:,}" + (f" of {finding.total:,}" if finding.total is not None else "")
    return f"{split}{number} {what}"


def printable(text: str) -> str:
    r"""Return a text with ``\\x1b`` and the like for what a terminal would obey or could not show."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text)


def _verdict(checkup: Checkup) -> str:
    counts = {severity: checkup.count(severity) for severity in sorted(Severity, reverse=True)}
    if not any(counts.values()):
        return "Nothing is wrong."
    told = [counted(count, severity.name.lower()) for severity, count in counts.items() if count]
    return f"{', '.join(told)}; the worst first."


def _finding(finding: Finding, colored: bool) -> Iterable[str]:
    name = _paint(finding.check, _COLORS[finding.severity], colored)
    first, *rest = _wrapped(headline(finding), " " * (len(finding.check) + 4), "    ")
    yield f"  {name}  {first.lstrip()}"
    yield from rest
    for example in finding.examples[:SHOWN]:
        yield from _wrapped(str(example), "      ", "        ")
    more = min(finding.count, len(finding.examples)) - SHOWN
    if more > 0:
        yield f"      ... and {finding.count - SHOWN:,} more"
    yield from _wrapped(finding.todo, "    -> ", "       ")


def _table(section: Section) -> list[str]:
    if section.header:
        rows = [[printable(cell) for cell in row] for row in section.rows]
        return [f"  {line}" for line in format_table(section.header, rows).splitlines()]
    width = max((len(row[0]) for row in section.rows), default=0)
    lines = []
    for name, *texts in section.rows:
        lines += _wrapped("  ".join(texts), f"  {name:<{width}}  ", " " * (width + 4))
    return lines


def _wrapped(text: str, first: str, later: str | None = None) -> list[str]:
    return textwrap.wrap(
        printable(text),
        WIDTH,
        initial_indent=first,
        subsequent_indent=first if later is None else later,
        break_long_words=False,
        break_on_hyphens=False,
    ) or [first.rstrip()]


def _paint(text: str, code: str, colored: bool) -> str:
    return f"\x1b[{code}m{text}\x1b[0m" if colored else text
