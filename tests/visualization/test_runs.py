from __future__ import annotations

import json
import math

import numpy as np
import pytest
from PIL import Image

from densehead.visualization.runs import Run, choose_keys, compare_runs, running_mean
from densehead.visualization.scalars import read_scalars, scalar_files
from tests.visualization.test_plots import figures, records  # noqa: F401


@pytest.fixture
def runs():
    other = [{**one, "loss_dfl": 0.1} if "lr" in one else one for one in records(3, shift=0.1)]
    return [Run.of("fcos", records(5)), Run.of("gfl", other)]


def test_numbers_of_training_and_validation_are_told_apart(runs):
    assert runs[0].keys == [
        *("lr", "data_time", "loss", "loss_cls", "loss_bbox"),
        *("coco/bbox_mAP", "coco/bbox_mAP_50", "coco/bbox_mAP_s", "time"),
    ]
    steps, values = runs[1].series("coco/bbox_mAP")
    assert steps.tolist() == [1, 2, 3]
    np.testing.assert_allclose(values, [0.15, 0.2, 0.25])
    steps, values = runs[1].series("loss_dfl")
    assert (steps[0], len(values)) == (10, 12)
    assert runs[0].series("loss_dfl")[0].shape == (0,)
    timed = Run.of("timed", [{"lr": 1, "time": 0.5, "step": 10}, {"coco/bbox_mAP": 0.1, "time": 0.1, "step": 1}])
    assert timed.series("time")[1].tolist() == [0.5]  # that of the training


def test_keys(runs):
    assert choose_keys(runs) == ["loss", "loss_cls", "loss_bbox", "coco/bbox_mAP", "coco/bbox_mAP_50", "lr"]
    assert choose_keys(runs, ["bbox_mAP", "loss_d*", "lr", "bbox_mAP"]) == ["coco/bbox_mAP", "loss_dfl", "lr"]
    with pytest.raises(ValueError, match=r"--keys los: no run has logged it\. Did you mean 'loss'.* There are lr, "):
        choose_keys(runs, ["los"])
    with pytest.raises(ValueError, match="no numbers have been logged in empty"):
        choose_keys([Run.of("empty", [])])


def test_one_panel_a_number_and_one_legend(runs, tmp_path, figures):  # noqa: F811
    file = compare_runs(runs, ["loss", "loss_dfl", "coco/bbox_mAP", "lr"], tmp_path / "new" / "curves.png")
    with Image.open(file) as picture:
        assert picture.format == "PNG"
    (figure,) = figures
    panels = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title(loc="left") for axis in panels] == ["loss", "loss_dfl", "coco/bbox_mAP", "lr"]
    assert [len(axis.get_lines()) for axis in panels] == [2, 1, 2, 2]
    assert [axis.get_xlabel() for axis in panels] == ["iteration", "iteration", "epoch", "iteration"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["fcos", "gfl"]
    looks = [line.get_color() for line in panels[0].get_lines()]
    assert looks == [line.get_color() for line in panels[2].get_lines()]
    assert panels[1].get_lines()[0].get_color() == looks[1] != looks[0]
    assert panels[2].get_ylim()[0] == 0


def test_names_of_runs_are_drawn_as_they_are(tmp_path):
    """What is between dollars would be mathematics, and wrong here."""
    named = [Run.of(r"$\frac$", [*records(2), {"loss": math.nan, "lr": 1, "iter": 41, "step": 41}])]
    assert compare_runs(named, ["loss"], tmp_path / "curves.png").is_file()


def test_smoothing_leaves_the_values_faint_and_metrics_as_they_are(runs, tmp_path, figures):  # noqa: F811
    compare_runs(runs[:1], ["loss", "coco/bbox_mAP", "lr"], tmp_path / "curves.png", smooth=5)
    loss, metric, rate = (axis.get_lines() for axis in figures[0].axes)
    assert len(loss) == 2
    assert loss[0].get_alpha() < 1
    np.testing.assert_allclose(loss[1].get_ydata(), running_mean(runs[0].series("loss")[1], 5))
    np.testing.assert_allclose(metric[-1].get_ydata(), runs[0].series("coco/bbox_mAP")[1])
    np.testing.assert_allclose(rate[-1].get_ydata(), runs[0].series("lr")[1])
    with pytest.raises(ValueError, match="smooth must be at least 1"):
        compare_runs(runs, ["loss"], tmp_path / "curves.png", smooth=0)


def test_running_mean_by_hand():
    assert running_mean(np.array([1.0, 2, 6, 4, 5]), 3).tolist() == [1, 3, 4, 5, 5]
    assert running_mean(np.array([0.0, 1, 2, 3, 4]), 5).tolist() == [0, 1, 2, 3, 4]  # a slope stays one
    np.testing.assert_equal(running_mean(np.array([1, math.nan, 3, math.inf, math.nan, 5]), 3)[1:5], [2, 3, 3, 5])
    np.testing.assert_equal(running_mean(np.array([math.nan] * 3), 3), [math.nan] * 3)


def test_what_is_not_finite_is_counted(tmp_path, figures):  # noqa: F811
    made = records(2)
    made[1].update(loss=math.nan)
    compare_runs([Run.of("a", made), Run.of("b", records(2))], ["loss"], tmp_path / "curves.png")
    assert [text.get_text() for text in figures[0].axes[0].texts] == ["not finite: a 1 times"]


def test_files_of_a_run(tmp_path):
    for time in ("20250102_000000", "20250101_000000"):
        folder = tmp_path / "run" / time / "vis_data"
        folder.mkdir(parents=True)
        (folder / "scalars.json").write_text(json.dumps({"loss": 1, "step": 1}) + "\n")
    first, second = scalar_files(tmp_path / "run")
    assert (first.parts[-3], second.parts[-3]) == ("20250101_000000", "20250102_000000")
    assert scalar_files(first.parents[1]) == scalar_files(first) == scalar_files(first.parent) == [first]
    with pytest.raises(FileNotFoundError, match=r"there is no run .*absent"):
        scalar_files(tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"empty holds no \*/vis_data/scalars\.json"):
        scalar_files(tmp_path / "empty")
    (tmp_path / "list.json").write_text("[1]\n")
    with pytest.raises(ValueError, match=r"list\.json, line 1: must be a JSON object, but is a list"):
        read_scalars(tmp_path / "list.json")
