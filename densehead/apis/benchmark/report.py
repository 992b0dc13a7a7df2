"""Measurements as files, and between the markers of a document."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from densehead.apis.benchmark import plots, tables
from densehead.apis.benchmark.sides import NAMES


def write_json(record: dict, path: Path) -> Path:
    """Write a record."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    return path


def read_json(path: Path) -> dict:
    """Read a record.

    Raises:
        ValueError: the file holds none.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is no result of this tool: {error}") from error
    if not isinstance(record, dict) or not {"kind", "machine", "rows"} <= set(record):
        raise ValueError(f"{path} is no result of this tool: it has no kind, machine and rows")
    return record


def fill(document: str, name: str, text: str) -> str:
    """Put a text between the markers ``<!-- name -->`` and ``<!-- /name -->`` of a document, if it has them."""
    pattern = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- /{re.escape(name)} -->)", re.DOTALL)
    return pattern.sub(lambda found: f"{found[1]}\n{text}\n\n{found[2]}", document)


def draw(record: dict, folder: Path, prefix: str = "") -> list[Path]:
    """Draw the pictures of a record into a folder; return their paths."""
    kind, device = record["kind"], tables.device_of(record)
    if kind == "heads":
        return [plots.draw_heads(record, folder / f"{prefix}heads_{device}.png")]
    axes = dict.fromkeys(row["axis"] for row in record["rows"]) if kind == "scaling" else ()
    return [plots.draw_scaling(record, axis, folder / f"{prefix}scaling_{device}_{axis}.png") for axis in axes]


def write_report(records: Sequence[dict], document: Path) -> None:
    """Put the tables of records between the markers of a document, and their pictures into ``images`` beside it.

    Records of a kind and device share tables and pictures.

    Raises:
        FileNotFoundError: there is no such document.
    """
    if not document.is_file():
        raise FileNotFoundError(f"there is no document {document}")
    text = document.read_text(encoding="utf-8")
    for record in joined(records):
        found = tables.tables(record)
        found[f"{record['kind']}_{tables.device_of(record)}_machine"] = tables.machine_lines(record)
        for name, filling in found.items():
            text = fill(text, name, filling)
        draw(record, document.parent / "images", "benchmark_")
    document.write_text(text, encoding="utf-8")


def joined(records: Sequence[dict]) -> list[dict]:
    """Return the records with all of a kind and device made one: of a row that is in several the last counts."""
    found: dict[tuple, dict] = {}
    for record in records:
        key = record["kind"], tables.device_of(record)
        rows = {_place(row): row for one in (found.get(key), record) if one for row in one["rows"]}
        commands = [one["machine"]["command"] for one in (found.get(key), record) if one]
        machine = {**record["machine"], "command": "\n".join(dict.fromkeys(commands))}
        found[key] = {**record, "machine": machine, "rows": sorted(rows.values(), key=_order)}
    return list(found.values())


def _place(row: dict) -> tuple:
    """What a row is about."""
    return tuple(str(row.get(key)) for key in ("name", "head", "axis", "value", "truths", "stage"))


def _order(row: dict) -> tuple:
    """Where a row stands: heads as in the list of configs, and small values first; trainings as they came."""
    known = list(NAMES)
    head = row.get("head")
    number = known.index(head) if head in known else len(known)
    return number, str(head), str(row.get("axis")), row.get("value", 0), row.get("truths", 0)
