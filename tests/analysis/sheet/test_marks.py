"""What a sheet draws is the assignment that the loss was computed on."""

import math

import numpy as np
import pytest

from densehead.analysis.sheet import panel_marks
from densehead.analysis.sheet.marks import FAINTEST, FILLED, FULLEST, diameters
from densehead.structures import IGNORED
from tests.analysis.sheet.records import IGNORING, by_hand, computed
from tests.models.heads.heads import CONFIGS

COLORS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0)]
NAMES = [*CONFIGS, IGNORING]


def naive(head, full, level):
    """{prior: (x, y, diameter, stride, RGBA)} and {prior: (x, y, diameter)} of what is hollow, from the head alone."""
    priors, assignment = head.last_priors, head.last_assignment
    weights = iter(head.positive_weights().tolist())
    filled, hollow = {}, {}
    for prior, truth in enumerate(assignment.gt_index[0].tolist()):
        weight = next(weights) if truth >= 0 else None
        if level is not None and priors.level_index[prior] != level:
            continue
        x, y = priors.points[prior].tolist()
        stride = priors.strides[prior].item()
        size = 0.6 * 8 * (stride / 8) ** 0.6
        if truth >= 0:
            opacity = FAINTEST + (1 - FAINTEST) * min(weight / full, 1)
            filled[prior] = (x, y, size, stride, *(channel / 255 for channel in COLORS[truth]), opacity)
        elif truth == IGNORED:
            hollow[prior] = (x, y, size)
    return filled, hollow


@pytest.mark.parametrize("level", [None, 0, 1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_marks_are_the_assignment_of_the_loss(name, level):
    head, record = computed(name)
    filled, hollow = naive(head, 0.7, level)
    marks = panel_marks(record, COLORS, level=level, full_weight=0.7)
    drawn = np.column_stack([marks.centers, marks.diameters, marks.cells, marks.colors])
    assert sorted(marks.prior_index.tolist()) == sorted(filled)
    several = "anchors" in name  # those lie around their point, see below
    for prior, row in zip(marks.prior_index.tolist(), drawn):
        assert row == pytest.approx(filled[prior], abs=1e-5) or several
        assert row[2:] == pytest.approx(filled[prior][2:], abs=1e-5)
    rows = np.column_stack([marks.hollow_centers, marks.hollow_diameters])
    assert len(rows) == len(hollow)
    assert all(row == pytest.approx(one, abs=1e-5) for row, one in zip(rows, hollow.values()))
    assert filled or level
    assert bool(hollow) == (name == IGNORING) or level


def test_anchors_of_one_point_lie_around_it():
    """Four anchors: to the right, below, to the left and above, a quarter of the stride away."""
    head, record = computed("ATSSHead-anchors")
    marks = panel_marks(record, COLORS)
    points = head.last_priors.points[marks.prior_index].numpy()
    turn = np.array([(1, 0), (0, 1), (-1, 0), (0, -1)])[marks.prior_index % 4]
    assert marks.centers == pytest.approx(points + turn * marks.cells[:, None] / 4, abs=1e-4)
    shared = {tuple(point) for point in points.tolist()}
    assert len(shared) < len(points) == len({tuple(center) for center in marks.centers.round(3).tolist()})


def test_what_is_small_or_opaque_lies_on_top():
    last_of_8 = 12 * 16 - 1
    record = by_hand([[0, 0, 99, 90]], [(0, 0, 0.9), (1, 0, 0.1), (last_of_8 + 1, 0, 1.0), (2, 0, 0.5)])
    marks = panel_marks(record, COLORS)
    assert marks.prior_index.tolist() == [last_of_8 + 1, 1, 2, 0]
    assert marks.cells.tolist() == [16, 8, 8, 8]


def test_opacity_is_full_at_the_highest_weight_and_never_nothing():
    record = by_hand([[0, 0, 99, 90]], [(0, 0, 0.0), (1, 0, 0.1), (2, 0, 0.2), (3, 0, 0.4)])
    opacity = panel_marks(record, COLORS, full_weight=0.2).colors[:, 3]
    assert opacity == pytest.approx([FAINTEST, FAINTEST + (1 - FAINTEST) / 2, 1, 1])


def test_diameters_grow_with_the_stride_and_leave_cells_apart():
    strides = np.array([8, 16, 32, 64, 128])
    sizes = diameters(strides)
    assert sizes[0] == FILLED * 8
    assert (np.diff(sizes) > 0).all()
    assert (np.diff(sizes / strides) < 0).all()
    assert diameters(strides, smallest=6)[0] == 6
    assert diameters(strides, smallest=100)[0] == pytest.approx(FULLEST * 8)
    assert diameters(np.array([4.0])).tolist() == [FILLED * 4]


def test_no_object_no_mark():
    marks = panel_marks(by_hand(np.zeros((0, 4)), []), [])
    assert len(marks.centers) == len(marks.hollow_centers) == 0
    assert marks.colors.shape == (0, 4)
    assert math.prod(marks.centers.shape) == 0
