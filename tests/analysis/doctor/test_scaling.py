"""What a pipeline does to sizes, against the pipeline itself."""

import numpy as np
import pytest
from mmengine.dataset import Compose

from densehead.analysis.doctor.scaling import scale
from densehead.registry import TRANSFORMS

SIZES = [(80, 60), (60, 80), (133, 40), (64, 64)]
BOX = np.array([[10, 10, 30, 20]], dtype=np.float32)


def build(*steps):
    return [TRANSFORMS.build(step) for step in steps]


def really(transforms, width, height):
    """Size of the image and of a box of 20 x 10 pixels after a pipeline."""
    results = {
        "img": np.zeros((height, width, 3), np.uint8),
        "img_shape": (height, width),
        "gt_bboxes": BOX.copy(),
        "gt_bboxes_labels": np.zeros(1, np.int64),
        "gt_ignore_flags": np.zeros(1, bool),
    }
    results = Compose(transforms)(results)
    left, top, right, bottom = results["gt_bboxes"][0]
    return results["img"].shape[1::-1], (right - left, bottom - top)


FIXED = [
    [{"type": "Resize", "scale": (100, 70), "keep_ratio": True}],
    [{"type": "Resize", "scale": (100, 70), "keep_ratio": False}],
    [{"type": "Resize", "scale": 50, "keep_ratio": True}],
    [{"type": "Resize", "scale_factor": 1.5}],
    [{"type": "Resize", "scale": (100, 70), "keep_ratio": True}, {"type": "Resize", "scale_factor": (0.5, 2.0)}],
    [{"type": "RandomChoiceResize", "scales": [(90, 50)], "keep_ratio": True}],
    [{"type": "RandomResize", "scale": (100, 70), "ratio_range": (0.5, 0.5), "keep_ratio": True}],
    [{"type": "RandomWarp", "size": (90, 50)}],
    [{"type": "RandomWarp", "size": (90, 50), "keep_ratio": True}],
    [{"type": "RandomFlip", "prob": 1.0}, {"type": "Resize", "scale": (100, 70)}],
]


@pytest.mark.parametrize("steps", FIXED)
def test_sizes_are_those_of_the_pipeline(steps):
    transforms = build(*steps)
    ways, unknown = scale(transforms, np.array(SIZES, dtype=np.float64))
    assert not unknown
    assert sum(way.weight for way in ways) == pytest.approx(1)
    for index, (width, height) in enumerate(SIZES):
        size, box = really(transforms, width, height)
        for way in ways:
            assert way.size[index].tolist() == list(size)
            np.testing.assert_allclose(way.factor[index] * (20, 10), box, rtol=2e-5)


def test_random_sizes_lie_between_the_ways():
    np.random.seed(0)
    for step in (
        {"type": "RandomResize", "scale": (100, 70), "ratio_range": (0.5, 2.0), "keep_ratio": True},
        {"type": "RandomResize", "scale": [(100, 30), (100, 90)], "keep_ratio": True},
        {"type": "RandomChoiceResize", "scales": [(100, side) for side in range(30, 91, 10)], "keep_ratio": True},
        {"type": "RandomWarp", "size": (90, 50), "scale": (0.6, 1.4)},
    ):
        step = {
            key: [tuple(x) for x in v] if key == "scale" and isinstance(v[0], tuple) else v for key, v in step.items()
        }
        transforms = build(step)
        ways, _ = scale(transforms, np.array(SIZES, dtype=np.float64))
        assert len(ways) == 3
        widths = [way.factor[0, 0] * 20 for way in ways]
        assert widths == sorted(widths)
        seen = [really(transforms, *SIZES[0])[1][0] for _ in range(20)]
        if step["type"] != "RandomWarp":  # which cuts boxes at the border
            assert min(seen) >= widths[0] * 0.97
        assert max(seen) <= widths[-1] * 1.03


def test_branches_have_their_probabilities():
    half, twice = ({"type": "Resize", "scale_factor": factor} for factor in (0.5, 2.0))
    transforms = build(
        {"type": "RandomChoice", "transforms": [[half], [twice, twice]], "prob": [0.25, 0.75]},
        {"type": "RandomApply", "transforms": [half], "prob": 0.4},
    )
    ways, _ = scale(transforms, np.array([[80.0, 60.0]]))
    assert {(round(way.weight, 6), *way.factor[0]) for way in ways} == {
        (0.1, 0.25, 0.25), (0.15, 0.5, 0.5), (0.3, 2.0, 2.0), (0.45, 4.0, 4.0)
    }  # fmt: skip


def test_a_crop_changes_what_is_resized_after_it():
    steps = [{"type": "RandomCrop", "crop_size": (40, 30)}, {"type": "Resize", "scale": (80, 60)}]
    (way,), unknown = scale(build(*steps), np.array([[80.0, 60.0], [20.0, 20.0]]))
    assert way.factor.tolist() == [[2, 2], [4, 3]]
    assert not unknown


def test_transforms_of_ones_own_are_named():
    class Zoom:
        def __call__(self, results):
            return results

    assert scale([Zoom()], np.array([[80.0, 60.0]]))[1] == ["Zoom"]
