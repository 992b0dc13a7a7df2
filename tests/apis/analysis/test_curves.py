from __future__ import annotations

import csv
import json

import pytest

from densehead.apis.analysis.curves import read_runs, report_curves, short_names
from tests.visualization.test_plots import records


def run(folder, made):
    (folder / "20250101_000000" / "vis_data").mkdir(parents=True)
    file = folder / "20250101_000000" / "vis_data" / "scalars.json"
    file.write_text("\n".join(json.dumps(one) for one in made))
    return folder


def test_picture_and_numbers(tmp_path):
    runs = read_runs([run(tmp_path / "fcos", records(3)), run(tmp_path / "gfl", records(2, shift=0.5))])
    assert [one.name for one in runs] == ["fcos", "gfl"]
    written = report_curves(runs, tmp_path / "out" / "c.png", keys=["loss", "bbox_mAP"], smooth=3)
    assert written == (tmp_path / "out" / "c.png", tmp_path / "out" / "c.csv")
    with written[1].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * 4 + 3 + 2 * 4 + 2
    losses = [row for row in rows if row["run"] == "fcos" and row["key"] == "loss"]
    assert [row["step"] for row in losses[:3]] == ["10", "20", "30"]
    assert float(losses[1]["smoothed"]) == pytest.approx(sum(float(row["value"]) for row in losses[:3]) / 3, rel=1e-4)
    metric = [row for row in rows if row["run"] == "gfl" and row["key"] == "coco/bbox_mAP"]
    assert [row["value"] for row in metric] == [row["smoothed"] for row in metric] == ["0.55", "0.6"]


def test_nothing_is_written_for_a_number_that_is_not_there(tmp_path):
    runs = read_runs([run(tmp_path / "fcos", records(3))])
    with pytest.raises(ValueError, match="--keys nonsense: no run has logged it"):
        report_curves(runs, tmp_path / "out" / "c.png", keys=["nonsense"])
    with pytest.raises(ValueError, match=r"--out must end with \.png, but got .*c\.jpg"):
        report_curves(runs, tmp_path / "out" / "c.jpg")
    assert not (tmp_path / "out").exists()


def test_names_are_as_short_as_they_can_be():
    assert short_names(["a/x", "b/y/"]) == ["x", "y"]
    assert short_names(["a/x/20250101/vis_data/scalars.json", "b/x/20250101/vis_data/scalars.json"]) == [
        "a/x/20250101",
        "b/x/20250101",
    ]
    assert short_names(["a/x", "a/x"])[0].endswith("a/x")
