from __future__ import annotations

import json
import math
import sys

import numpy as np
import pytest
from matplotlib.figure import Figure
from PIL import Image

from densehead.visualization import contact_sheet, read_scalars, training_curves
from densehead.visualization.plots import SHEET_GAP


def records(epochs, *, first=1, iters=40, shift=0.0):
    """What mmengine logs every ten iterations and after every epoch."""
    made = []
    for epoch in range(first, epochs + 1):
        for step in range((epoch - 1) * iters + 10, epoch * iters + 1, 10):
            loss = 3 / step + shift
            losses = {"loss": 2 * loss, "loss_cls": loss, "loss_bbox": loss}
            made.append({"lr": 0.01, "data_time": 0.1, **losses, "epoch": epoch, "iter": step, "step": step})
        metrics = {"coco/bbox_mAP": 0.05 * epoch + shift, "coco/bbox_mAP_50": 0.1 * epoch, "coco/bbox_mAP_s": -1.0}
        made.append({**metrics, "time": 0.2, "step": epoch})
    return made


@pytest.fixture
def figures(monkeypatch):
    """The figures that are saved."""
    saved = []
    original = Figure.savefig
    monkeypatch.setattr(Figure, "savefig", lambda self, *a, **k: (saved.append(self), original(self, *a, **k))[1])
    return saved


def lines_of(figure):
    return {line.get_label(): line for axis in figure.axes for line in axis.get_lines()}


def test_curves_of_a_training(tmp_path, figures, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)  # importing it fails
    file = training_curves(records(5), tmp_path / "new" / "curves.png", title="a run")
    with Image.open(file) as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000
    (figure,) = figures
    lines = lines_of(figure)
    assert list(lines) == ["loss", "loss_cls", "loss_bbox", "lr", "coco/bbox_mAP", "coco/bbox_mAP_50"]
    assert lines["loss"].get_xdata().tolist() == list(range(10, 201, 10))
    assert lines["coco/bbox_mAP"].get_xdata().tolist() == [1, 2, 3, 4, 5]
    np.testing.assert_allclose(lines["coco/bbox_mAP"].get_ydata(), [0.05, 0.1, 0.15, 0.2, 0.25])
    assert [axis.get_xlabel() for axis in figure.axes] == ["iteration", "iteration", "epoch"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(lines)
    assert "best coco/bbox_mAP: 0.250 (epoch 5)" in [text.get_text() for text in figure.axes[2].texts]


def test_assignments_and_gradients_have_panels_of_their_own(tmp_path, figures):
    made = records(3)
    for number, one in enumerate(made):
        if "lr" in one:
            one.update(grad_norm=10.0 / (number + 1), num_pos=3.0)
        if "lr" in one and number > 3:  # logged once an interval
            one.update(pos_per_object=5.0, pos_small=2.0, pos_large=9.0, missed=0.1)
    training_curves(made, tmp_path / "curves.png")
    (figure,) = figures
    titles = [axis.get_title(loc="left") for axis in figure.axes]
    assert titles[:3] == ["losses", "learning rate", "average precision"]
    assert titles[3:] == ["positives of an object", "share of objects without any", "norm of the gradient"]
    lines = [[line.get_label() for line in axis.get_lines()] for axis in figure.axes]
    assert lines[3:] == [["pos_per_object", "pos_small", "pos_large"], ["missed"], ["grad_norm"]]
    assert figure.axes[3].get_lines()[0].get_xdata().tolist() == list(range(50, 121, 10))
    assert figure.axes[3].get_ylim()[0] == figure.axes[4].get_ylim()[0] == 0
    assert len({round(axis.get_position().y0, 3) for axis in figure.axes}) == 2
    assert len(figure.legends[0].get_texts()) == sum(map(len, lines))
    looks = {(line.get_color(), line.get_linestyle()) for axis in figure.axes for line in axis.get_lines()}
    assert len(looks) == sum(map(len, lines))


def test_resumed_runs_replace_what_they_went_through_again(tmp_path, figures):
    """Killed in epoch 4, of which no checkpoint was left; resumed from the end of epoch 3 with another interval."""
    first = [one for one in records(4) if one["step"] not in (4, 160)]
    files = [tmp_path / "first.json", tmp_path / "second.json"]
    files[0].write_text("\n".join(json.dumps(one) for one in first) + '\n{"lr": 0.0')
    second = [{**one, "step": one["step"] + 5} if "lr" in one else one for one in records(5, first=4, shift=0.5)]
    files[1].write_text("\n".join(json.dumps(one) for one in second) + "\n\n")
    assert len(read_scalars(files)) == len(first) + len(second)
    training_curves(files, tmp_path / "curves.png")
    lines = lines_of(figures[0])
    steps = lines["loss"].get_xdata()
    assert steps.tolist() == [*range(10, 131, 10), *range(135, 206, 10)]
    assert (lines["loss"].get_ydata()[steps > 130] > 1).all()
    assert lines["coco/bbox_mAP"].get_xdata().tolist() == [1, 2, 3, 4, 5]


def test_not_a_number_leaves_a_gap_and_is_counted(tmp_path, figures):
    made = records(3)
    made[2].update(loss=math.nan, loss_cls=math.inf)
    training_curves(made, tmp_path / "curves.png")
    axis = figures[0].axes[0]
    assert np.isnan(lines_of(figures[0])["loss"].get_ydata()).sum() == 1
    assert [text.get_text() for text in axis.texts] == ["not finite: loss 1 times, loss_cls 1 times"]


@pytest.mark.parametrize(
    ("made", "panels"),
    [
        (records(1), 3),
        (records(1, iters=10), 3),
        ([{"loss": math.nan, "lr": 0.0, "step": 1}], 2),
        ([{"pascal_voc/mAP": 0.0, "pascal_voc/AP50": 0.0, "step": 1}], 1),
        ([{"coco/bbox_mAP": -1.0, "step": 1}], 1),
        ([{"mine/score": 0.3, "step": 1}], 1),
        ([{f"loss_{n}": 10.0**-n for n in range(12)} | {"iter": 7}], 1),
    ],
)
def test_short_and_odd_runs(made, panels, tmp_path, figures):
    training_curves(made, tmp_path / "curves.png")
    assert len(figures[0].axes) == panels
    looks = {(line.get_color(), line.get_linestyle()) for line in lines_of(figures[0]).values()}
    assert len(looks) == len(lines_of(figures[0]))


def test_iteration_based_runs_validate_at_iterations(tmp_path, figures):
    made = [{key: value for key, value in one.items() if key != "epoch"} for one in records(2) if "lr" in one]
    training_curves([*made, {"coco/bbox_mAP": 0.3, "step": 80}], tmp_path / "curves.png")
    assert figures[0].axes[2].get_xlabel() == "iteration"


def test_nothing_to_draw_and_broken_files_are_named(tmp_path):
    with pytest.raises(ValueError, match="no losses, learning rate or metrics"):
        training_curves([], tmp_path / "curves.png")
    file = tmp_path / "scalars.json"
    file.write_text('{"lr": 1}\nnonsense\n{"lr": 1}\n')
    with pytest.raises(ValueError, match=r"scalars\.json, line 2"):
        read_scalars(file)
    with pytest.raises(FileNotFoundError, match=r"absent\.json"):
        training_curves(str(tmp_path / "absent.json"), tmp_path / "curves.png")


def test_contact_sheet_lays_pictures_out_row_by_row(tmp_path):
    colors = [(250, 0, 0), (0, 250, 0), (0, 0, 250)]
    pictures = [np.full((40 + 10 * n, 60, 3), color, dtype=np.uint8) for n, color in enumerate(colors)]
    Image.fromarray(pictures[2]).save(tmp_path / "third.png")
    file = contact_sheet([*pictures[:2], tmp_path / "third.png"], tmp_path / "new" / "sheet.png", columns=2)
    with Image.open(file) as sheet:
        assert sheet.size == (2 * 60 + 3 * SHEET_GAP, 50 + 60 + 3 * SHEET_GAP)
        assert sheet.getpixel((SHEET_GAP, SHEET_GAP)) == colors[0]
        assert sheet.getpixel((2 * SHEET_GAP + 60, SHEET_GAP)) == colors[1]
        assert sheet.getpixel((SHEET_GAP, 2 * SHEET_GAP + 50)) == colors[2]
        assert sheet.getpixel((0, 0)) == (255, 255, 255)


def test_contact_sheet_with_titles_and_reduced_pictures(tmp_path):
    picture = np.full((100, 400, 3), 90, dtype=np.uint8)
    file = contact_sheet(
        [picture], tmp_path / "sheet.jpg", columns=4, titles=["a very long title " * 5], cell_width=200
    )
    with Image.open(file) as sheet:
        assert sheet.width == 200 + 2 * SHEET_GAP
        assert 50 + 2 * SHEET_GAP < sheet.height < 90 + 2 * SHEET_GAP


@pytest.mark.parametrize("arguments", [{"images": []}, {"columns": 0}, {"titles": ["a", "b"]}])
def test_contact_sheet_says_what_it_needs(arguments, tmp_path):
    arguments = {"images": [np.zeros((4, 4, 3), np.uint8)], "out_file": tmp_path / "sheet.png", **arguments}
    with pytest.raises(ValueError, match="one picture or more"):
        contact_sheet(**arguments)
