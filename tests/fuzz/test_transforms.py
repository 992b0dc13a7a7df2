"""Boxes at the edges through the transforms of training: finite, inside the image, each with its label and flag."""

from __future__ import annotations

import copy
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import strategies as st

from densehead.datasets.transforms import instances
from densehead.registry import TRANSFORMS
from tests.datasets.transforms.scenes import check as check_types
from tests.fuzz.running import CASES, try_many, try_some
from tests.strategies import SEEDS, Truth, boxes_of, truths

NOT_FOR_TRAINING = {"LoadImageFromFile", "LoadImageFromNDArray", "LoadAnnotations", "PackDetInputs", "TestTimeAug"}
RESIZE = {"type": "Resize", "scale": (48, 32), "keep_ratio": True}
WARP = {"perspective": 0.01, "scale": (0.2, 3.0), "rotation": 180.0, "shear": 40.0, "translate": 0.5, "flip": 0.5}
TRANSFORM_CFGS = [
    RESIZE,
    {"type": "Resize", "scale": (7, 90), "keep_ratio": False},
    {"type": "Resize", "scale_factor": (0.3, 2.7)},
    {"type": "RandomResize", "scale": [(20, 20), (90, 60)], "keep_ratio": True},
    {"type": "RandomResize", "scale": (40, 40), "ratio_range": (0.1, 2.0), "keep_ratio": False},
    {"type": "RandomChoiceResize", "scales": [(30, 20), (61, 67)], "keep_ratio": True},
    {"type": "RandomFlip", "prob": 1.0},
    {"type": "RandomFlip", "prob": [0.3, 0.3, 0.3], "direction": ["horizontal", "vertical", "diagonal"]},
    {"type": "Pad", "size_divisor": 32},
    {"type": "Pad", "pad_to_square": True},
    *(
        {"type": "RandomCrop", "crop_type": kind, "crop_size": size, "allow_negative_crop": allowed}
        for kind, size in (
            ("absolute", (20, 9)),
            ("absolute_range", (1, 40)),
            ("relative", (0.3, 0.9)),
            ("relative_range", (0.1, 0.5)),
        )
        for allowed in (False, True)
    ),
    {"type": "MinIoURandomCrop"},
    {"type": "Expand", "prob": 1.0},
    {"type": "FilterAnnotations", "min_gt_bbox_wh": (2, 3)},
    {"type": "FilterAnnotations", "min_gt_bbox_wh": (1e-2, 1e-2), "keep_empty": False},
    {"type": "PhotoMetricDistortion"},
    {"type": "RandomColorJitter"},
    {"type": "RandomWarp", "size": (32, 32)},
    {"type": "RandomWarp", "size": (40, 25), "stretch": ((0.5, 2.0), (0.5, 2.0)), **WARP},
    {"type": "RandomWarp", "size": (33, 64), "keep_ratio": True, "divisible": 32, **WARP},
    {"type": "RandomApply", "transforms": [RESIZE], "prob": 0.5},
    {"type": "RandomChoice", "transforms": [[RESIZE], [{"type": "RandomFlip", "prob": 1.0}]]},
]
LOAD = [{"type": "LoadImageFromNDArray"}, {"type": "LoadAnnotations", "with_bbox": True}]
TRANSFORMS_OF = [TRANSFORMS.build(cfg) for cfg in TRANSFORM_CFGS]


@dataclass(frozen=True)
class PipelineCase:
    """An image (height, width), what is annotated, transforms, and the seed of what they draw.

    Where ``is_inside``, boxes are cut at the border, as data sets hand them on; some have no extent then.
    """

    image: tuple[int, int]
    truth: Truth
    is_inside: bool
    steps: tuple[int, ...]
    seed: int

    def info(self) -> dict:
        rng = np.random.default_rng(self.truth.seed)
        groups = [(*group, flag) for flag, part in enumerate((self.truth.boxes, self.truth.ignored)) for group in part]
        found = []
        for kind, count, flag in groups:
            boxes = boxes_of(kind, count, self.image, rng)
            boxes = instances.clip(boxes, *self.image) if self.is_inside else boxes
            labels = rng.integers(0, 80, count).tolist()
            flags = [flag] * count
            keys = ("bbox", "bbox_label", "ignore_flag")
            found += [dict(zip(keys, one, strict=True)) for one in zip(boxes.tolist(), labels, flags, strict=True)]
        return {"instances": found, "img_id": 0, "height": self.image[0], "width": self.image[1]}


def cases():
    steps = st.lists(st.integers(0, len(TRANSFORM_CFGS) - 1), min_size=1, max_size=3).map(tuple)
    sides = st.integers(1, 64)
    return st.builds(PipelineCase, st.tuples(sides, sides), truths(), st.booleans(), steps, SEEDS)


def check(case: PipelineCase) -> None:
    info, image = case.info(), np.random.default_rng(case.seed).integers(0, 256, (*case.image, 3), dtype=np.uint8)
    info_before, image_before = copy.deepcopy(info), image.copy()
    results = {**info, "img": image}
    for cfg in LOAD:
        results = TRANSFORMS.build(cfg)(results)
    np.random.seed(case.seed)
    for step in case.steps:
        held = {key: (results[key], results[key].copy()) for key in instances.PER_BOX}
        results = TRANSFORMS_OF[step](results)
        assert all((before == copied).all() for before, copied in held.values())
        if results is None:  # the data set takes another image
            break
        check_step(case, results)
    assert info == info_before
    assert (image == image_before).all()
    if results is not None:
        check_packed(TRANSFORMS.build({"type": "PackDetInputs"})(dict(results)), results)


def check_step(case: PipelineCase, results: dict) -> None:
    check_types(results)
    boxes, (height, width) = results["gt_bboxes"], results["img"].shape[:2]
    assert min(height, width) > 0
    assert np.isfinite(boxes).all()
    assert np.isfinite(results["img"]).all()
    if case.is_inside:
        assert (boxes >= 0).all()
        assert (boxes <= (width, height, width, height)).all()


def check_packed(packed: dict, results: dict) -> None:
    sample = packed["data_samples"]
    for part, count in (
        (sample.gt_instances, (~results["gt_ignore_flags"]).sum()),
        (sample.ignored_instances, results["gt_ignore_flags"].sum()),
    ):
        assert part.bboxes.shape == (count, 4)
        assert part.labels.shape == (count,)
    assert packed["inputs"].shape == (3, *results["img_shape"])


def test_some_cases():
    try_some(cases(), check, 200)


@pytest.mark.fuzz
def test_many_cases(record_property):
    try_many(cases(), check, CASES, "pipelines", record_property)


def test_all_transforms_of_training_are_among_them():
    ours = {name for name, kind in TRANSFORMS.module_dict.items() if kind.__module__.startswith(("densehead", "mmcv"))}
    assert ours - NOT_FOR_TRAINING == {one["type"] for one in TRANSFORM_CFGS}
