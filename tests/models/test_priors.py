import pytest
import torch

from densehead.models.priors import MAX_CACHED_SIZES, AnchorGenerator, MlvlPointGenerator

SIZES = [(3, 4), (2, 2)]


def test_points_lie_in_the_middle_of_their_cells():
    generator = MlvlPointGenerator([8, 16])
    first, second = generator.grid_priors(SIZES, device="cpu")
    assert first[:5].tolist() == [[4, 4], [12, 4], [20, 4], [28, 4], [4, 12]]
    assert second.tolist() == [[8, 8], [24, 8], [8, 24], [24, 24]]
    with_stride = generator.grid_priors(SIZES, device="cpu", with_stride=True)[1]
    assert with_stride.tolist()[0] == [8, 8, 16, 16]
    assert generator.num_base_priors == [1, 1]


def test_strides_may_differ_by_axis():
    generator = MlvlPointGenerator([(4, 8)])
    assert generator.grid_priors([(1, 2)], device="cpu")[0].tolist() == [[2, 4], [6, 4]]


def test_anchors_of_ratios_and_scales():
    """Side 16, ratio 4 (height over width): 8 x 32, centred on the cell's corner; twice that at scale 2."""
    generator = AnchorGenerator([16], ratios=[1.0, 4.0], scales=[1.0, 2.0])
    (anchors,) = generator.grid_priors([(1, 2)], device="cpu")
    base = [[-8, -8, 8, 8], [-16, -16, 16, 16], [-4, -16, 4, 16], [-8, -32, 8, 32]]
    assert anchors[:4].tolist() == base
    assert anchors[4].tolist() == [8, -8, 24, 8]
    assert generator.num_base_priors == [4]


def test_scale_minor_order():
    generator = AnchorGenerator([16], ratios=[1.0, 4.0], scales=[1.0, 2.0], scale_major=False)
    assert generator.base_anchors[0][1].tolist() == [-4, -16, 4, 16]


def test_octaves():
    generator = AnchorGenerator([8], ratios=[1.0], octave_base_scale=4, scales_per_octave=2)
    assert generator.scales.tolist() == pytest.approx([4, 4 * 2**0.5])


@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_center_offset(offset):
    (box,) = AnchorGenerator([16], ratios=[1.0], scales=[1.0], center_offset=offset).grid_priors([(1, 1)], device="cpu")
    assert box.tolist() == [[16 * offset - 8, 16 * offset - 8, 16 * offset + 8, 16 * offset + 8]]


def test_centers():
    generator = AnchorGenerator([16], ratios=[1.0], scales=[1.0], centers=[(3.0, 5.0)])
    assert generator.base_anchors[0].tolist() == [[-5, -3, 11, 13]]


@pytest.mark.parametrize(
    "generator",
    [
        MlvlPointGenerator([8, 16]),
        AnchorGenerator([8, 16], [0.5, 2.0], [1.0, 2.0]),
        AnchorGenerator([8, 16], [1.0], [8]),
    ],
)
def test_grids_say_where_the_priors_are(generator):
    priors = generator.priors(SIZES)
    for grid in priors.grids:
        for row in range(grid.height):
            for column in range(grid.width):
                index = grid.start + (row * grid.width + column) * grid.step
                centre = [grid.x0 + column * grid.stride_x, grid.y0 + row * grid.stride_y]
                assert priors.points[index].tolist() == pytest.approx(centre)
                box = priors.boxes[index]
                assert (box[2:] - box[:2]).tolist() == pytest.approx([grid.box_width, grid.box_height])
                assert priors.level_index[index] == grid.level


def test_cells_in_the_padding_do_not_count():
    """An image padded to 20 x 17 has rows 0, 8, 16 and columns 0, 8, 16 of stride 8; of stride 16 two each."""
    first, second = MlvlPointGenerator([8, 16]).valid_flags([(4, 5), (3, 3)], (20, 17), "cpu")
    assert first.view(4, 5).tolist() == [[True] * 3 + [False] * 2] * 3 + [[False] * 5]
    assert second.view(3, 3).tolist() == [[True, True, False]] * 2 + [[False] * 3]


@pytest.mark.parametrize("border", [0, 5])
def test_allowed_border(border):
    generator = AnchorGenerator([8, 16], [0.5, 1.0], [1.0])
    sizes, shape = [(5, 6), (3, 3)], (38, 45)
    priors = generator.priors(sizes)
    ranges = generator.valid_ranges(sizes, [(40, 48)], "cpu", [shape], border)
    x1, y1, x2, y2 = priors.boxes.unbind(-1)
    inside = (x1 >= -border) & (y1 >= -border) & (x2 < shape[1] + border) & (y2 < shape[0] + border)
    assert torch.equal(priors.restricted(ranges).valid_mask()[0], inside)


def test_all_cells_count_where_nothing_is_padded():
    generator = MlvlPointGenerator([8, 16])
    assert generator.valid_ranges([(4, 5), (2, 3)], [(32, 40)] * 2, "cpu") is None
    assert generator.priors([(4, 5), (2, 3)]).valid_mask() is None


def test_priors_are_computed_once_for_a_size():
    generator = MlvlPointGenerator([8])
    assert generator.priors([(2, 3)]) is generator.priors([torch.Size((2, 3))])
    for size in range(2 * MAX_CACHED_SIZES):
        generator.priors([(size + 1, 1)])
    assert len(generator._cache) <= MAX_CACHED_SIZES


def test_sparse_and_single_level_priors():
    generator = AnchorGenerator([8, 16], [1.0, 2.0], [1.0])
    everything = generator.grid_priors(SIZES, device="cpu")
    assert torch.equal(generator.single_level_grid_priors((2, 2), 1, device="cpu"), everything[1])
    index = torch.tensor([5, 0])
    assert torch.equal(generator.sparse_priors(index, (2, 2), 1, device="cpu"), everything[1][index])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: AnchorGenerator([8], [1.0]), "either scales or both of octave_base_scale"),
        (lambda: AnchorGenerator([8], [1.0], [1.0], octave_base_scale=4, scales_per_octave=1), "either scales or both"),
        (lambda: AnchorGenerator([8], [1.0], [1.0], center_offset=2), "center_offset must be within"),
        (lambda: AnchorGenerator([8], [1.0], [1.0], center_offset=0.5, centers=[(0, 0)]), "not both"),
        (lambda: AnchorGenerator([8], [1.0], [1.0], base_sizes=[8, 16]), "base_sizes must have one entry a stride"),
        (lambda: AnchorGenerator([8], [1.0], [1.0], centers=[(0, 0)] * 2), "centers must have one entry a stride"),
        (lambda: MlvlPointGenerator([]), "strides .* empty"),
        (lambda: MlvlPointGenerator([(1, 2, 3)]), "a number or two"),
        (lambda: MlvlPointGenerator([8]).priors([(1, 1), (2, 2)]), "1 strides .* 2 feature maps"),
    ],
)
def test_bad_input_is_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


def test_priors_made_for_inference_can_be_trained_with():
    generator = MlvlPointGenerator([8])
    with torch.inference_mode():
        generator.priors([(2, 2)])
    scale = torch.ones(1, requires_grad=True)
    (generator.priors([(2, 2)]).points * scale).sum().backward()
    assert scale.grad == generator.priors([(2, 2)]).points.sum()
