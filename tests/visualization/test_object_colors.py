import itertools

import numpy as np
import pytest

from densehead.visualization.object_colors import OBJECT_COLORS, object_colors


def grid(rows, side=20, gap=2):
    y, x = np.mgrid[:rows, :rows].reshape(2, -1) * (side + gap)
    return np.stack([x, y, x + side, y + side], 1).astype(float)


def test_few_objects_have_a_colour_each():
    boxes = grid(4)[: len(OBJECT_COLORS)]
    assert len(set(object_colors(boxes))) == len(OBJECT_COLORS)
    assert object_colors(np.zeros((0, 4))) == []
    assert object_colors(grid(1)) == [OBJECT_COLORS[0]]


@pytest.mark.parametrize("rows", [5, 17])
def test_neighbours_differ(rows):
    """On a grid of squares, of which there are many more than colours, none has that of one of its eight neighbours."""
    colors = np.array(object_colors(grid(rows))).reshape(rows, rows, 3)
    for down, right in ((0, 1), (1, 0), (1, 1)):
        one, other = colors[: rows - down, : rows - right], colors[down:, right:]
        assert (one != other).any(-1).all()
    assert (colors[1:, :-1] != colors[:-1, 1:]).any(-1).all()


def test_objects_on_top_of_each_other_differ_rather_than_those_beside():
    """Eleven nested boxes, and a row of touching ones beside them, want more colours than there are."""
    nested = np.array([[i, i, 200 - i, 200 - i] for i in range(len(OBJECT_COLORS))], float)
    row = np.array([[200 + 20 * i, 0, 220 + 20 * i, 20] for i in range(30)], float)
    colors = object_colors(np.concatenate([row, nested]))
    assert len(set(colors[len(row) :])) == len(OBJECT_COLORS)
    assert all(one != other for one, other in itertools.pairwise(colors))
