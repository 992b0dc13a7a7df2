"""A report on detections as text and as CSV files."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from densehead.analysis.detections import curves as along
from densehead.analysis.detections.confusion import COLUMN_NAME, ROW_NAMES
from densehead.analysis.detections.errors import MEANING
from densehead.analysis.detections.report import DetectionReport
from densehead.evaluation.tables import format_table, format_value, write_csv

CLASS_COLUMNS = ("class", "objects", "detections", "ap", "threshold", "precision", "recall", "f1")
MANY = 30  # classes of which a table on the screen shows the best and the worst


def report_text(report: DetectionReport) -> str:
    """Return what is shown on the screen: a table of the classes, one of the errors, the confusions."""
    *rows, mean = report.class_rows()
    shown = rows
    if len(rows) > MANY:
        ordered = sorted((row for row in rows if row["objects"]), key=lambda row: -row["ap"])
        shown = [*ordered[: MANY // 2], *ordered[-MANY // 2 :]]
    header = ("class", "objects", "detections", f"AP{round(report.iou_thr * 100)}", "score >=", "precision", "recall")
    table = format_table((*header, "F1"), [_cells(row) for row in shown], _cells(mean))
    if len(shown) < len(rows):
        table += f"\nthe {MANY // 2} best and the {MANY // 2} worst of {len(rows)} classes; all are in classes.csv"
    errors = format_table(
        ("error", "how often", f"score >= {report.score_thr:.3g}", "AP without it"),
        [
            [f"{row['kind']}: {MEANING[row['kind']]}", str(row["count"]), _count(row["kept"]), _signed(row["gain"])]
            for row in report.error_rows()
        ],
    )
    confused = ", ".join(f"{one['true']} as {one['detected']} ({one['count']})" for one in report.confused(5))
    forgiven = "  ".join(f"{name} {values.mean():.3f}" for name, values in report.forgiving.items())
    return "\n\n".join(
        [
            f"{report.num_images} images, IoU >= {report.iou_thr:g}; each class with the scores of its own best F1, "
            f"the mean with those of the best mean F1\n{table}",
            errors,
            f"forgiving one error after the other: {forgiven}",
            f"taken for another class (score >= {report.score_thr:.3g}): {confused or 'none'}",
        ]
    )


def write_tables(report: DetectionReport, folder: Path, images: Sequence[Mapping[str, Any]]) -> None:
    """Write ``summary.json``, ``classes.csv``, ``curves.csv``, ``confusion.csv``, ``errors.csv``, ``images.csv``.

    Args:
        report: what was found.
        folder: an existing one.
        images: of each image ``img_id`` and ``img_path``.
    """
    (folder / "summary.json").write_text(json.dumps(_finite(report.summary()), indent=1) + "\n", encoding="utf-8")
    rows = [[row[key] for key in CLASS_COLUMNS] for row in report.class_rows()]
    write_csv(folder / "classes.csv", CLASS_COLUMNS, rows)
    write_csv(folder / "curves.csv", ("class", "against", "at", "precision", "recall", "f1"), _curve_rows(report))
    matrix = zip([*report.classes, *ROW_NAMES], report.confusion.tolist(), strict=True)
    header = ("true \\ detected", *report.classes, COLUMN_NAME)
    write_csv(folder / "confusion.csv", header, ([name, *row] for name, row in matrix))
    write_csv(folder / "errors.csv", ("kind", "class", "count", "ap_gain"), _error_rows(report))
    scores = report.images
    columns = zip(images, scores.right, scores.wrong, scores.missed, scores.f1, strict=True)
    write_csv(
        folder / "images.csv",
        ("img_id", "img_path", "right", "wrong", "missed", "f1"),
        ([image["img_id"], image["img_path"], *numbers] for image, *numbers in columns),
    )


def _curve_rows(report: DetectionReport) -> Iterable[Sequence[Any]]:
    """Rows of the curves against the recall and against the score, of each class and of their mean."""
    counting = [(name, curve) for name, curve in zip(report.classes, report.curves, strict=True) if curve.num_gts]
    by_recall = [(name, curve.precision_at_recalls) for name, curve in counting]
    by_recall.append(("mean", np.mean([values for _, values in by_recall], 0)))
    for name, values in by_recall:
        for recall, precision in zip(along.RECALLS, values, strict=True):
            yield name, "recall", recall, precision, recall, None
    by_score = [(name, curve.at_scores(along.SCORES)) for name, curve in counting]
    by_score.append(("mean", along.mean_at_scores(report.curves)))
    for name, values in by_score:
        for score, three in zip(along.SCORES, values.T, strict=True):
            yield name, "score", score, *three


def _error_rows(report: DetectionReport) -> Iterable[Sequence[Any]]:
    for kind, cost in report.costs.items():
        yield kind, "mean", int(cost.count.sum()), cost.mean_gain
        for name, count, gain in zip(report.classes, cost.count.tolist(), cost.gain, strict=True):
            yield kind, name, count, gain


def _cells(row: Mapping[str, Any]) -> list[str]:
    name, objects, detections, *numbers = (row[key] for key in CLASS_COLUMNS)
    return [name, str(objects), str(detections), *(format_value(number) for number in numbers)]


def _count(value: int | None) -> str:
    return "-" if value is None else str(value)


def _signed(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:+.3f}"


def _finite(value: Any) -> Any:
    """Put None in place of NaN, which JSON does not know."""
    if isinstance(value, Mapping):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and math.isnan(value) else value
