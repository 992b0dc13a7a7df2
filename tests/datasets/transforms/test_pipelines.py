"""The pipelines that the configs of these heads name, from a file to a batch."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope

from densehead.datasets import CocoDataset
from densehead.registry import TRANSFORMS

LOAD = [{"type": "LoadImageFromFile", "backend_args": None}, {"type": "LoadAnnotations", "with_bbox": True}]
FLIP_PACK = [{"type": "RandomFlip", "prob": 0.5}, {"type": "PackDetInputs"}]
TEST_KEYS = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
PIPELINES = {
    "coco": [*LOAD, {"type": "Resize", "scale": (1333, 800), "keep_ratio": True}, *FLIP_PACK],
    "coco test": [
        LOAD[0],
        {"type": "Resize", "scale": (1333, 800), "keep_ratio": True},
        LOAD[1],
        {"type": "PackDetInputs", "meta_keys": TEST_KEYS},
    ],
    "two scales": [
        *LOAD,
        {"type": "RandomChoiceResize", "scales": [(1333, 640), (1333, 800)], "keep_ratio": True},
        *FLIP_PACK,
    ],
    "scales between": [
        *LOAD,
        {"type": "RandomResize", "scale": [(1333, 480), (1333, 960)], "keep_ratio": True},
        *FLIP_PACK,
    ],
    "large scale jitter": [
        *LOAD,
        {"type": "RandomResize", "scale": (1024, 1024), "ratio_range": (0.1, 2.0), "keep_ratio": True},
        {
            "type": "RandomCrop",
            "crop_type": "absolute_range",
            "crop_size": (1024, 1024),
            "recompute_bbox": True,
            "allow_negative_crop": True,
        },
        {"type": "FilterAnnotations", "min_gt_bbox_wh": (1e-2, 1e-2)},
        *FLIP_PACK,
    ],
    "nanodet": [
        *LOAD,
        {"type": "RandomWarp", "size": (320, 320), "scale": (0.6, 1.4), "translate": 0.2, "flip": 0.5},
        {"type": "RandomColorJitter"},
        {"type": "PackDetInputs"},
    ],
    "ssd": [
        *LOAD,
        {"type": "PhotoMetricDistortion"},
        {"type": "Expand"},
        {"type": "MinIoURandomCrop"},
        {"type": "Resize", "scale": (320, 320), "keep_ratio": False},
        *FLIP_PACK,
    ],
}
TTA = [
    LOAD[0],
    {
        "type": "TestTimeAug",
        "transforms": [
            [{"type": "Resize", "scale": scale, "keep_ratio": True} for scale in ((1333, 400), (1333, 800))],
            [{"type": "RandomFlip", "prob": 1.0}, {"type": "RandomFlip", "prob": 0.0}],
            [LOAD[1]],
            [{"type": "PackDetInputs", "meta_keys": (*TEST_KEYS, "flip", "flip_direction")}],
        ],
    },
]


@pytest.fixture(params=[None, "densehead", "mmdet"])
def scope(request):
    """Pipelines of densehead's data sets are densehead's, whatever the default scope is."""
    with DefaultScope.overwrite_default_scope(request.param):
        yield


@pytest.fixture
def dataset(coco, write_coco, picture, tmp_path):
    picture(tmp_path / "img" / "a.jpg", 60, 80)

    def build(pipeline):
        return CocoDataset(**write_coco(coco, pipeline=copy.deepcopy(pipeline), indices=1))

    return build


@pytest.mark.parametrize("name", PIPELINES)
def test_a_pipeline_of_the_model_zoo_runs(dataset, name, scope):
    np.random.seed(0)
    for packed in (dataset(PIPELINES[name])[0] for _ in range(3)):
        sample = packed["data_samples"]
        height, width = sample.img_shape
        assert packed["inputs"].shape == (3, height, width)
        assert sample.ori_shape == (60, 80)
        boxes = sample.gt_instances.bboxes
        assert boxes.shape == (len(sample.gt_instances.labels), 4)
        assert (boxes >= 0).all()
        assert (boxes[:, 0::2] <= width).all()
        assert (boxes[:, 1::2] <= height).all()


def test_the_usual_test_pipeline_scales_the_image_and_not_the_truth(dataset):
    sample = dataset(PIPELINES["coco test"])[0]["data_samples"]
    assert sample.img_shape == (800, 1067)
    assert sample.scale_factor == (1067 / 80, 800 / 60)
    assert sample.gt_instances.bboxes.tolist() == [[1, 2, 11, 22]]


def test_test_time_augmentation_gives_each_combination(dataset, scope):
    packed = dataset(TTA)[0]
    samples = packed["data_samples"]
    assert [(sample.img_shape, sample.flip) for sample in samples] == [
        ((400, 533), True),
        ((400, 533), False),
        ((800, 1067), True),
        ((800, 1067), False),
    ]
    assert [tuple(image.shape[1:]) for image in packed["inputs"]] == [sample.img_shape for sample in samples]


def test_mmengines_compose_finds_them_in_the_scope(picture, tmp_path):
    picture(tmp_path / "a.jpg")
    with DefaultScope.overwrite_default_scope("mmdet"):
        pipeline = Compose(copy.deepcopy(PIPELINES["large scale jitter"]))
    packed = pipeline({"img_path": str(tmp_path / "a.jpg"), "instances": []})
    assert packed["data_samples"].gt_instances.bboxes.shape == (0, 4)


@pytest.mark.parametrize("name", ["Resize", "mmdet.Resize", "densehead.Resize", "RandomFlip", "mmdet.RandomFlip"])
def test_types_have_mmdetections_names(name):
    assert TRANSFORMS.get(name) is not None


def test_random_choices_nest(dataset):
    pipeline = [
        *LOAD,
        {
            "type": "RandomChoice",
            "transforms": [[{"type": "Resize", "scale": (40, 30)}], [{"type": "Pad", "size": (99, 99)}]],
        },
        {"type": "RandomApply", "prob": 1.0, "transforms": [{"type": "RandomFlip", "prob": 1.0}]},
        {"type": "PackDetInputs"},
    ]
    np.random.seed(0)
    data = dataset(pipeline)
    samples = [data[0]["data_samples"] for _ in range(10)]
    assert {sample.img_shape for sample in samples} == {(30, 40), (99, 99)}
    assert all(sample.flip and sample.gt_instances.bboxes.dtype.itemsize == 4 for sample in samples)
