import math

import pytest
import torch

from densehead.models.coders import DeltaXYWHBBoxCoder, DistancePointBBoxCoder

BOXES = torch.tensor([[2.0, 3.0, 12.0, 23.0], [0.0, 0.0, 8.0, 8.0]])


def test_distances():
    """The point (4, 8) in the box 2, 3, 12, 23 lies 2, 5, 8, 15 from its sides."""
    coder, points = DistancePointBBoxCoder(), torch.tensor([[4.0, 8.0], [4.0, 4.0]])
    ltrb = coder.encode(points, BOXES)
    assert ltrb.tolist() == [[2, 5, 8, 15], [4, 4, 4, 4]]
    assert torch.equal(coder.decode(points, ltrb), BOXES)


def test_deltas_come_back():
    coder = DeltaXYWHBBoxCoder(target_stds=(0.1, 0.1, 0.2, 0.2))
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0], [4.0, 4.0, 20.0, 12.0]])
    torch.testing.assert_close(coder.decode(anchors, coder.encode(anchors, BOXES)), BOXES)


def test_delta_by_hand():
    """Anchor 0, 0, 10, 10 to a box twice as wide, its centre 5 to the right: dx = 0.5, dw = log 2."""
    delta = DeltaXYWHBBoxCoder().encode(torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[0.0, 0, 20, 10]]))
    torch.testing.assert_close(delta, torch.tensor([[0.5, 0.0, math.log(2), 0.0]]))


@pytest.mark.parametrize("clip", [True, False])
def test_boxes_are_clipped_to_the_image(clip):
    points, ltrb = torch.tensor([[5.0, 5.0]]), torch.tensor([[9.0, 1.0, 9.0, 9.0]])
    boxes = DistancePointBBoxCoder(clip_border=clip).decode(points, ltrb, max_shape=(10, 12))
    assert boxes.tolist() == ([[0, 4, 12, 10]] if clip else [[-4, 4, 14, 14]])
    deltas = DeltaXYWHBBoxCoder(clip_border=clip).decode(torch.tensor([[-4.0, 4, 14, 14]]), torch.zeros(1, 4), (10, 12))
    assert deltas.tolist() == ([[0, 4, 12, 10]] if clip else [[-4, 4, 14, 14]])


def test_a_shift_of_the_centre_can_be_limited():
    coder = DeltaXYWHBBoxCoder(add_ctr_clamp=True, ctr_clamp=2)
    moved = coder.decode(torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([[5.0, -5.0, 0.0, 0.0]]))
    assert moved.tolist() == [[2, -2, 12, 8]]
