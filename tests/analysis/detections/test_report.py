from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from densehead.analysis.detections.plots import draw_confusion, draw_curves, draw_errors
from densehead.analysis.detections.report import analyse
from densehead.analysis.detections.tables import report_text, write_tables
from tests.analysis.detections.scenes import CLASSES, found, random_boxes, truth_of
from tests.evaluation.test_coco_api import pycocotools_evaluation


@pytest.fixture(scope="module")
def scene():
    return random_boxes(2)


@pytest.fixture(scope="module")
def report(scene):
    truth, detections, *_ = scene
    return analyse(detections, truth, classes=CLASSES, num_images=25)


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_the_parts_agree(scene, report):
    truth, _, coco_truth, coco_detections = scene
    assert report.mean_average_precision == pytest.approx(pycocotools_evaluation(coco_truth, coco_detections).stats[1])
    assert report.forgiving["C50"].mean() == pytest.approx(report.mean_average_precision)
    assert report.confusion[:-2].sum() == (~truth.ignored).sum() == sum(curve.num_gts for curve in report.curves)
    right = sum(curve.num_right[-1] for curve in report.curves if len(curve.scores))
    assert report.matches.is_right.sum() == right
    errors = {row["kind"]: row for row in report.error_rows()}
    assert sum(errors[kind]["kept"] for kind in list(errors)[:5]) == errors["false positives"]["kept"]
    assert errors["false positives"]["kept"] == report.images.wrong.sum()
    assert errors["false negatives"]["kept"] == report.images.missed.sum() > errors["false negatives"]["count"]
    rows = report.class_rows()
    assert [row["class"] for row in rows] == [*CLASSES, "mean"]
    assert rows[-1]["f1"] == pytest.approx(
        np.mean([curve.at_scores([report.score_thr])[2, 0] for curve in report.curves[:-1]])
    )
    assert np.isnan(rows[4]["ap"])  # "dot" has no truth
    best = rows[0]["f1"]
    assert best == pytest.approx(max(report.curves[0].at_scores(np.linspace(0, 1, 1001))[2]))


def test_score_threshold_is_that_of_the_best_mean_f1_unless_given(scene, report):
    truth, detections, *_ = scene
    assert report.score_thr == report.class_rows()[-1]["threshold"]
    other = analyse(detections, truth, classes=CLASSES, num_images=25, score_thr=0.9, iou_thr=0.8)
    assert (other.score_thr, other.iou_thr) == (0.9, 0.8)
    assert other.images.right.sum() < report.images.right.sum()
    assert other.mean_average_precision < report.mean_average_precision


def test_tables(report, tmp_path):
    images = [{"img_id": number, "img_path": f"{number}.jpg"} for number in range(25)]
    write_tables(report, tmp_path, images)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["mean_ap"] == report.mean_average_precision
    assert summary["classes"][4]["ap"] is None
    classes = rows_of(tmp_path / "classes.csv")
    assert float(classes[-1]["ap"]) == pytest.approx(report.mean_average_precision, rel=1e-5)
    assert classes[4]["ap"] == ""
    errors = rows_of(tmp_path / "errors.csv")
    assert len(errors) == 8 * 6
    assert {row["class"] for row in errors} == {*CLASSES, "mean"}
    matrix = rows_of(tmp_path / "confusion.csv")
    assert [row["true \\ detected"] for row in matrix] == [*CLASSES, "found already", "background"]
    assert [int(row["not found"]) for row in matrix] == report.confusion[:, -1].tolist()
    curves = rows_of(tmp_path / "curves.csv")
    mean = [float(row["precision"]) for row in curves if row["class"] == "mean" and row["against"] == "recall"]
    assert np.mean(mean) == pytest.approx(report.mean_average_precision, rel=1e-5)
    assert len(rows_of(tmp_path / "images.csv")) == 25


def test_text_names_what_is_wrong(report):
    text = report_text(report)
    assert f"{report.mean_average_precision:.3f}" in text
    assert "AP50" in text
    assert "localisation: the class of an object, a box that overlaps it too little" in text
    assert "taken for another class" in text


def test_many_classes_are_cut_short_on_the_screen():
    truth = truth_of(*(([0, 0, 10, 10], label, label) for label in range(60)))
    detections = found(*(([label / 10, 0, 10, 10], label, 0.5, label) for label in range(60)))
    report = analyse(detections, truth, classes=[f"c{label}" for label in range(60)], num_images=60)
    text = report_text(report)
    assert "the 15 best and the 15 worst of 60 classes" in text
    assert len(text.splitlines()) < 60


@pytest.mark.parametrize("count", [1, 5, 60])
def test_pictures(count, tmp_path, monkeypatch):
    saved = []
    original = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (saved.append(self), original(self, *a, **k))[1])
    truth = truth_of(*(([0, 0, 10, 10], label, label) for label in range(count)), ([30, 0, 40, 10], 0))
    detections = found(*(([0, 0, 10, 10], label // 2, 0.5 + label / 200, label) for label in range(count)))
    report = analyse(detections, truth, classes=[f"class {label}" for label in range(count)], num_images=count)
    for number, draw in enumerate((draw_curves, draw_confusion, draw_errors)):
        with Image.open(draw(report, tmp_path / f"{number}.png")) as picture:
            assert picture.format == "PNG"
    curves, confusion, errors = saved
    labels = [text.get_text() for text in curves.legends[0].get_texts()]
    assert labels[-1] == f"{report.mean_average_precision:.3f}  mean"
    assert len(labels) == (8 if count == 60 else count + 1)
    if count == 60:
        assert labels[0] == "54 others"
    numbers = [text.get_text() for text in confusion.axes[0].texts]
    assert sorted(numbers) == ([] if count == 60 else sorted(str(n) for n in report.confusion.ravel() if n))
    assert [tick.get_text() for tick in errors.axes[0].get_yticklabels()][:2] == ["classification", "localisation"]
    widths = [bar.get_width() for bar in errors.axes[0].patches]
    np.testing.assert_allclose(widths, [np.nan_to_num(cost.mean_gain) for cost in report.costs.values()])


def test_thresholds_and_empty_truth_are_named(scene):
    truth, detections, *_ = scene
    arguments = {"classes": CLASSES, "num_images": 25}
    with pytest.raises(ValueError, match=r"IoU threshold must be above 0\.1 and at most 1, but got 0\.1"):
        analyse(detections, truth, iou_thr=0.1, **arguments)
    with pytest.raises(ValueError, match=r"score threshold must be from 0 to 1, but got 2"):
        analyse(detections, truth, score_thr=2, **arguments)
    with pytest.raises(ValueError, match="no object to be found in 25 images"):
        analyse(detections, truth_of(), **arguments)


def test_nothing_was_detected():
    report = analyse(found(), truth_of(([0, 0, 9, 9], 0)), classes=["a"], num_images=1)
    assert report.mean_average_precision == 0
    assert report.images.worst(5).tolist() == [0]
    assert len(report.images.best(5)) == 0
    assert "-" in report_text(report)


@pytest.mark.parametrize("draw", [draw_curves, draw_confusion, draw_errors])
def test_names_of_classes_are_drawn_as_they_are(scene, tmp_path, draw):
    """What is between dollars would be mathematics, and wrong here."""
    truth, detections, *_ = scene
    hostile = [rf"<img src=x onerror=alert(1)>| $\frac$ {name}" for name in CLASSES]
    draw(analyse(detections, truth, classes=hostile, num_images=25), tmp_path / "a.png")
    assert (tmp_path / "a.png").stat().st_size > 10_000
