"""Measurements as tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence

from densehead.apis.benchmark.sides import NAMES, OURS, THEIRS
from densehead.evaluation.tables import markdown_cell

HEADS_COLUMNS = (
    "head", "ground truths", "stage", "densehead ms (min)", "mmdet ms (min)", "faster", "densehead MB", "mmdet MB",
    "memory",
)  # fmt: skip


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown whose columns are aligned, to be read as it stands too."""
    columns, *rows = ([markdown_cell(cell) for cell in line] for line in (columns, *rows))
    widths = [max(len(line[index]) for line in (columns, *rows)) for index in range(len(columns))]
    lines = [columns, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in lines
    )


def heads_table(record: dict) -> str:
    """Return the table of ``heads``; ``faster`` and ``memory`` compare with mmdetection."""
    return table(HEADS_COLUMNS, [_heads_row(row) for row in record["rows"]])


def scaling_table(record: dict, axis: str) -> str:
    """Return the table of an axis of ``scaling``: milliseconds / megabytes of losses and gradients, a row a head."""
    rows = [row for row in record["rows"] if row["axis"] == axis]
    values = list(dict.fromkeys(row["value"] for row in rows))
    names = {row["value"]: value_name(row) for row in rows}
    lines = []
    for head, side in dict.fromkeys((row["head"], side) for row in rows for side in (OURS, THEIRS) if side in row):
        found = {row["value"]: row for row in rows if row["head"] == head}
        cells = [_point(found.get(value), side) for value in values]
        lines.append([f"{NAMES.get(head, head)}, {side}", *cells])
    return table((axis, *(names[value] for value in values)), lines)


def value_name(row: dict) -> str:
    """Return how a value of an axis is written."""
    return "x".join(map(str, row["size"])) if row["axis"] == "size" else str(row["value"])


def skipped_lines(record: dict, axis: str) -> str:
    """Say in a line where mmdetection's heads were not measured along an axis, and why; nothing where they all were."""
    rows = [row for row in record["rows"] if row["axis"] == axis]
    first = {row["head"]: row for row in reversed(rows) if "skipped" in row}
    parts = [f"{head_name(row)} from {value_name(row)} on ({row['skipped']})" for row in first.values()]
    parts += [f"{head_name(row)} at {value_name(row)} ({row['failed']})" for row in rows if "failed" in row]
    return f"Not measured of mmdet: {'; '.join(sorted(parts))}." if parts else ""


def head_name(row: dict) -> str:
    """Return how the head of a row is called."""
    return NAMES.get(row["head"], row["head"])


def train_table(record: dict) -> str:
    """Return the table of ``train``: speed, and the parts of a step in milliseconds."""
    rows = [_train_row(row) for row in record["rows"]]
    return table([name for name, _ in rows[0]], [[value for _, value in row] for row in rows])


def tables(record: dict) -> dict[str, str]:
    """Return all tables of a record by the names that their places in a document have."""
    kind, device = record["kind"], device_of(record)
    if kind == "scaling":
        axes = dict.fromkeys(row["axis"] for row in record["rows"])
        texts = {axis: [scaling_table(record, axis), skipped_lines(record, axis)] for axis in axes}
        return {f"scaling_{device}_{axis}": "\n\n".join(filter(None, parts)) for axis, parts in texts.items()}
    return {f"{kind}_{device}": heads_table(record) if kind == "heads" else train_table(record)}


def device_of(record: dict) -> str:
    """Return ``'cpu'`` or ``'cuda'``, whichever a record is of."""
    return record["options"]["device"] if "device" in record["options"] else record["rows"][0]["device"]


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


def ratio(row: dict, key: str) -> float | None:
    """Return by how much mmdetection's figure is ours, or None where one is not there."""
    ours, theirs = row[OURS].get(key), (row.get(THEIRS) or {}).get(key)
    return theirs / ours if ours and theirs is not None else None


def _heads_row(row: dict) -> list[str]:
    faster, memory = ratio(row, "median_ms"), ratio(row, "peak_mb")
    return [
        head_name(row), str(row["truths"]), row["stage"],
        *(_time(row.get(name)) for name in (OURS, THEIRS)), "-" if faster is None else f"{faster:.1f}x",
        *(number((row.get(name) or {}).get("peak_mb")) for name in (OURS, THEIRS)),
        "-" if not memory else f"{1 / memory:.0%}",
    ]  # fmt: skip


def _point(row: dict | None, side: str) -> str:
    found = (row or {}).get(side)
    return "-" if found is None else f"{number(found['median_ms'])} / {number(found['peak_mb'])}"


def _train_row(row: dict) -> list[tuple[str, str]]:
    parts = row["parts_ms"]
    head = [parts.get(name) for name in ("head loss", "head loss, backward")]
    rest = row["not_convolutions_share"]
    return [
        ("training", row["name"]), ("device", row["device"]), ("batch", f"{row['batch']:g}"),
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
