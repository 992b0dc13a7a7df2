"""Sheets, looked at pixel by pixel: points where the priors are, frames where the objects are."""

import dataclasses
import io

import numpy as np
import pytest
from PIL import Image

from densehead.analysis.sheet import draw_sheet, panel_marks
from densehead.analysis.sheet.figure import full_weights
from densehead.analysis.sheet.panels import WARNING, backdrop
from densehead.visualization.object_colors import object_colors
from tests.analysis.sheet.records import IGNORING, by_hand, computed, scene
from tests.models.heads.heads import CONFIGS, SHAPE

NAMES = [*CONFIGS, IGNORING]
GREY = backdrop(np.full((1, 1, 3), 200, np.uint8), (1, 1))[0, 0]  # of the scenes' image


def axes_of(figure):
    return {axis.get_label(): axis for axis in figure.axes}


def texts_of(figure):
    return [text.get_text() for text in figure.texts]


def pixels_of(figure):
    """Return (height, width, 3) of the sheet as it is written."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png")
    return np.asarray(Image.open(stream).convert("RGB")).astype(float)


def places(axis, points, pixels):
    """Return rows and columns of the sheet at which points (n, 2) of an image lie."""
    x, y = axis.transData.transform(points).T
    return np.clip((len(pixels) - y).astype(int), 0, len(pixels) - 1), np.clip(x.astype(int), 0, pixels.shape[1] - 1)


def is_in_sight(marks):
    """(n,) whether no later mark covers the centre of a mark, which lies well inside the image."""
    distance = np.linalg.norm(marks.centers[:, None] - marks.centers, axis=-1)
    is_covered = np.triu(distance < marks.diameters / 2 + 1, 1).any(1)
    return ~is_covered & ((marks.centers > 1) & (marks.centers < (SHAPE[1] - 1, SHAPE[0] - 1))).all(1)


def is_alone(marks, boxes):
    """(n,) whether neither a mark nor the side of a box is near the centre of a mark."""
    distance = np.linalg.norm(marks.centers[:, None] - marks.centers, axis=-1) + 1e9 * np.eye(len(marks.centers))
    beyond = np.abs(marks.centers[:, None] - (boxes[:, :2] + boxes[:, 2:]) / 2) - (boxes[:, 2:] - boxes[:, :2]) / 2
    is_off_frames = np.abs(beyond.max(2)) > 2
    return (distance > (marks.diameters + 2) / 2).all(1) & is_off_frames.all(1)


@pytest.mark.parametrize("name", NAMES)
def test_points_are_drawn_where_the_priors_are(name):
    """The colour at every prior of every panel is that of its object over the grey of the backdrop."""
    _, record = computed(name, count=8)
    shown = scene({name: record})
    figure = draw_sheet(shown)
    pixels, colors, full = pixels_of(figure), object_colors(record.boxes), full_weights(shown)[record.weight_name]
    for level in (None, 0, 1, 2):
        axis = axes_of(figure)[f"{name}/{'all' if level is None else level}"]
        marks = panel_marks(record, colors, level=level, full_weight=full)
        chosen = is_in_sight(marks)
        seen = pixels[places(axis, marks.centers[chosen], pixels)]
        rgb, opacity = 255 * marks.colors[chosen, :3], marks.colors[chosen, 3:]
        # below a point is the backdrop, a frame, a cell or another point
        assert (seen > rgb * opacity - 3).all()
        assert (seen < rgb * opacity + 255 * (1 - opacity) + 3).all()
        if level is None:
            alone = is_alone(marks, record.boxes)[chosen]
            assert seen[alone] == pytest.approx((rgb * opacity + GREY * (1 - opacity))[alone], abs=3)
            assert alone.sum() >= 2


def test_every_prior_that_is_none_shows_the_backdrop():
    _, record = computed("FCOSHead", count=1)
    figure = draw_sheet(scene({"FCOSHead": record}))
    pixels, axis = pixels_of(figure), axes_of(figure)["FCOSHead/0"]
    others = np.setdiff1d(np.flatnonzero(record.level_index == 0), record.prior_index)
    left, top, right, bottom = record.boxes[0]
    x, y = record.points[others].T
    outside = (x < left - 5) | (x > right + 5) | (y < top - 5) | (y > bottom + 5)
    seen = pixels[places(axis, record.points[others][outside], pixels)]
    assert outside.sum() > 100
    assert (seen == GREY).all()


def test_the_backdrop_is_laid_pixel_by_pixel():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (90, 200, 3), dtype=np.uint8)
    figure = draw_sheet(scene({"head": by_hand([[0, 0, 8, 8]], [], shape=(90, 200))}, image))
    pixels, axis = pixels_of(figure), axes_of(figure)["head/1"]
    (bottom,), (left,) = places(axis, [(0.01, 89.99)], pixels)
    dimmed = backdrop(image, (340, 153))
    shown = pixels[bottom - 152 : bottom + 1, left : left + 340]
    assert (shown[40:, 40:] == dimmed[40:, 40:]).all()
    assert dimmed.max() <= 155


def test_objects_without_any_point_are_framed_like_barrier_tape():
    record = by_hand([[20, 20, 60, 50], [80, 60, 84, 63]], [(16 * 4 + 5, 0, 1.0)])
    figure = draw_sheet(scene({"head": record}))
    pixels = pixels_of(figure)
    assert any("1 of 2 objects without any" in text for text in texts_of(figure))
    axis = axes_of(figure)["head/all"]
    pixel = SHAPE[1] / 340
    reach = 13 / 2 * pixel  # the box is small: its frame is as large as one can still see
    line = np.linspace(-reach, reach, 60)
    frame = np.concatenate([np.column_stack([82 + line, np.full(60, 61.5 + side)]) for side in (-reach, reach)])
    seen = pixels[places(axis, frame, pixels)]
    red = 255 * np.array(WARNING[1])
    is_red, is_white = (np.abs(seen - color).max(1) < 90 for color in (red, np.full(3, 255)))
    assert (is_red | is_white).mean() > 0.9
    assert is_red.mean() > 0.3
    assert is_white.mean() > 0.2
    frame = np.column_stack([20 + 0 * line, np.linspace(22, 48, 60)])
    assert (np.abs(pixels[places(axis, frame, pixels)] - red).max(1) > 90).all()


def test_one_record_has_its_levels_beside_the_photo():
    _, record = computed("FCOSHead")
    figure = draw_sheet(scene({"FCOSHead": record}))
    assert list(axes_of(figure)) == ["photo", "FCOSHead/all", "FCOSHead/0", "FCOSHead/1", "FCOSHead/2", "legend"]
    counts = zip((8, 16, 32), record.counts().sum(0).tolist())
    captions = {f"stride {stride}: {count} positive{'s' * (count != 1)}" for stride, count in counts}
    assert captions <= set(texts_of(figure))
    assert f"{len(record.prior_index)} positives, {record.is_missed().sum()} of 4 objects without any" in texts_of(
        figure
    )


def test_several_records_have_a_row_each_and_one_legend():
    records = {name: computed(name)[1] for name in ("FCOSHead", "GFLHead", "AutoAssignHead")}
    figure = draw_sheet(scene(records))
    axes = axes_of(figure)
    assert [*axes].count("legend") == 1
    for name in records:
        tops = {round(axes[f"{name}/{panel}"].get_position().y1, 6) for panel in ("all", 0, 1, 2)}
        assert len(tops) == 1
    assert [axes[f"{name}/all"].get_position().y1 for name in records] == sorted(
        (axes[f"{name}/all"].get_position().y1 for name in records), reverse=True
    )
    assert any("opacity: centre-ness, full at" in text for text in texts_of(figure))


@pytest.mark.parametrize(("columns", "expected"), [(None, 4), (2, 2), (1, 1)])
def test_without_levels_panels_lie_as_they_fit(columns, expected):
    _, record = computed("FCOSHead")
    figure = draw_sheet(scene({f"rule {number}": record for number in range(7)}), levels=False, columns=columns)
    lefts = {round(axis.get_position().x0, 6) for label, axis in axes_of(figure).items() if label != "legend"}
    assert len(lefts) == expected
    assert len(figure.axes) == 9


def test_panels_titles_and_legend_do_not_overlap():
    records = {
        f"{name} with a title that is much too long for its panel, and more": computed(name)[1] for name in CONFIGS
    }
    figure = draw_sheet(scene(records), levels=False)
    renderer = figure.canvas.get_renderer()
    boxes = [axis.get_window_extent(renderer) for axis in figure.axes]
    boxes += [text.get_window_extent(renderer) for text in figure.texts]
    areas = np.array([[box.x0, box.y0, box.x1, box.y1] for box in boxes])
    shared = np.minimum(areas[:, None, 2:], areas[:, 2:]) - np.maximum(areas[:, None, :2], areas[:, :2])
    overlaps = (shared > 0.5).all(-1) & ~np.eye(len(areas), dtype=bool)
    assert not overlaps.any()
    assert (areas >= 0).all()
    assert (areas[:, 2:] <= figure.bbox.size).all()


def test_opacity_has_one_scale_for_all_records_of_a_kind_of_weight():
    one = by_hand([[0, 0, 50, 50]], [(0, 0, 0.2), (1, 0, 0.4)])
    other = by_hand([[0, 0, 50, 50]], [(0, 0, 0.8)])
    third = by_hand([[0, 0, 50, 50]], [(0, 0, 0.1)], weight_name="positive weight")
    none = by_hand([[0, 0, 50, 50]], [], weight_name="centre-ness")
    full = full_weights(scene(dict(enumerate([one, other, third, none]))))
    assert full == pytest.approx({"IoU": 0.8, "positive weight": 0.1, "centre-ness": 1.0})


@pytest.mark.parametrize("count", [0, 1, 300])
def test_sheets_of_none_and_of_many_objects(count):
    rng = np.random.default_rng(0)
    low = rng.uniform(0, 80, (count, 2))
    record = by_hand(np.concatenate([low, low + 9], 1), [(index % 190, index, 0.5) for index in range(0, count, 2)])
    figure = draw_sheet(scene({"head": record}), panel_side=200)
    assert np.isfinite(pixels_of(figure)).all()
    assert any(text.startswith(f"{count} object") for text in texts_of(figure))


def test_classes_are_counted_the_most_frequent_first():
    record = by_hand(np.tile([[0, 0, 9, 9]], (9, 1)), [], labels=np.array([0, 1, 1, 2, 3, 4, 5, 6, 1]))
    figure = draw_sheet(scene({"head": record}, names=("a", "b", "c", "d", "e", "f")))
    times = "\u00d7"
    expected = f"9 objects: 3 {times} b, 1 {times} a, 1 {times} c, 1 {times} d, 1 {times} e, 2 more classes"
    assert expected in texts_of(figure)


@pytest.mark.parametrize("format", ["pdf", "svg"])
def test_sheets_can_be_vectors(format, tmp_path):
    _, record = computed("FCOSHead")
    draw_sheet(scene({"FCOSHead": record})).savefig(tmp_path / f"sheet.{format}", format=format)
    assert (tmp_path / f"sheet.{format}").stat().st_size > 1000


def test_names_of_strangers_are_drawn_as_they_are():
    """What is between dollars would be mathematics, and wrong here."""
    record = computed("FCOSHead", count=3)[1]
    shown = dataclasses.replace(scene({r"$\head$": record}), name=r"$\image$", class_names=(r"$\class$",) * 5)
    assert pixels_of(draw_sheet(shown)).std() > 1
