"""Measurements as tables in Markdown, as files, and between the markers of a document."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path

from densehead.apis.benchmark.sides import NAMES, OURS, THEIRS

HEADS_COLUMNS = (
    "head", "ground truths", "stage", "densehead ms (min)", "mmdet ms (min)", "faster", "densehead MB", "mmdet MB",
    "memory",
)  # fmt: skip


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown whose columns are aligned, to be read as it stands too."""
    widths = [max(len(line[index]) for line in (columns, *rows)) for index in range(len(columns))]
    lines = [columns, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def heads_table(record: dict) -> str:
    """Return the table of ``heads``; ``faster`` and ``memory`` compare with mmdetection."""
    return table(HEADS_COLUMNS, [_heads_row(row) for row in record["rows"]])


def train_table(record: dict) -> str:
    """Return the table of ``train``: speed, and the parts of a step in milliseconds."""
    rows = [_train_row(row) for row in record["rows"]]
    return table([name for name, _ in rows[0]], [[value for _, value in row] for row in rows])


def machine_lines(record: dict) -> str:
    """Return in a few lines what was measured on, with what, and by which command."""
    facts = record["machine"]
    place = f"{facts['gpu']} ({facts['cpu']})" if facts["gpu"] else f"{facts['cpu']}, {facts['cores']} cores"
    names = ("densehead", "torch", "mmcv", "mmengine", "mmdet", "triton")
    versions = [_version(name, facts.get(name)) for name in names if facts.get(name)]
    operators = "with" if facts["mmcv_ops"] else "without"
    return (
        f"{place}, {facts['threads']} threads. Python {facts['python']}, {', '.join(versions)}; mmcv {operators} "
        f"compiled operators.\n\n```bash\n{facts['command']}\n```"
    )


def _version(name: str, value: str) -> str:
    return value if value.startswith(name) or " " in value else f"{name} {value}"


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


def ratio(row: dict, key: str) -> float | None:
    """Return by how much mmdetection's figure is ours, or None where one is not there."""
    ours, theirs = row[OURS].get(key), (row.get(THEIRS) or {}).get(key)
    return theirs / ours if ours and theirs is not None else None


def _heads_row(row: dict) -> list[str]:
    faster, memory = ratio(row, "median_ms"), ratio(row, "peak_mb")
    return [
        NAMES.get(row["head"], row["head"]), str(row["truths"]), row["stage"],
        *(_time(row.get(name)) for name in (OURS, THEIRS)), "-" if faster is None else f"{faster:.1f}x",
        *(number((row.get(name) or {}).get("peak_mb")) for name in (OURS, THEIRS)),
        "-" if not memory else f"{1 / memory:.0%}",
    ]  # fmt: skip


def _train_row(row: dict) -> list[tuple[str, str]]:
    parts = row["parts_ms"]
    head = [parts.get(name) for name in ("head loss", "head loss, backward")]
    rest = row["not_convolutions_share"]
    return [
        ("config", row["config"]), ("device", row["device"]), ("batch", f"{row['batch']:g}"),
        ("images/s", number(row["images_per_s"])), ("step ms", number(row["step_ms"])),
        ("of it data", number(row["data_ms"])),
        *((name, number(parts.get(name))) for name in ("preprocess", "forward", "backward", "optimizer")),
        ("head loss + backward", " + ".join(map(number, head))), ("head loss", f"{row['head_loss_share']:.1%}"),
        ("not convolutions", "-" if rest is None else f"{rest:.0%}"), ("peak MB", number(row["peak_mb"])),
    ]  # fmt: skip


def _time(found: dict | None) -> str:
    return "-" if found is None else f"{number(found['median_ms'])} ({number(found['min_ms'])})"


def number(value: float | None) -> str:
    """Write a figure with three digits."""
    if value is None:
        return "-"
    places = 0 if value >= 100 else 1 if value >= 10 else 2
    return f"{value:.{places}f}"
