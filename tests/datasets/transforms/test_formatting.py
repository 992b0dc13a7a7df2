from __future__ import annotations

import numpy as np
import pytest
import torch
from mmengine.dataset import pseudo_collate

from densehead.structures import DetDataSample
from tests.datasets.transforms.scenes import make


def test_ignored_objects_are_kept_apart(build, results):
    packed = build("PackDetInputs")(results)
    sample = packed["data_samples"]
    assert isinstance(sample, DetDataSample)
    assert sample.gt_instances.labels.tolist() == [0, 1, 2, 3, 4]
    assert sample.ignored_instances.labels.tolist() == [5]
    assert sample.gt_instances.bboxes.dtype == torch.float32
    assert sample.gt_instances.labels.dtype == torch.int64
    np.testing.assert_array_equal(sample.ignored_instances.bboxes, results["gt_bboxes"][5:])


@pytest.mark.parametrize(
    "change",
    [
        lambda x: x,
        lambda x: x[:, ::-1],
        lambda x: x[::-1],
        lambda x: x[..., ::-1],
        lambda x: x[::-1, ::-1, ::-1],
        lambda x: x[3:20, 5:9],
        lambda x: x[3:20, 9:5:-1],
        lambda x: x.astype("f4"),
    ],
)
def test_the_image_is_a_contiguous_tensor(build, results, change):
    results["img"] = change(results["img"])
    inputs = build("PackDetInputs")(results)["inputs"]
    assert inputs.is_contiguous()
    assert (inputs.numpy() == results["img"].transpose(2, 0, 1)).all()
    assert inputs.numpy().dtype == results["img"].dtype


def test_a_gray_image_gets_a_channel(build):
    assert build("PackDetInputs")({"img": np.zeros((4, 5), np.uint8)})["inputs"].shape == (1, 4, 5)


def test_meta_keys_are_kept_where_they_are_there(build, results):
    results.update(img_id=3, img_path="a.jpg", instances=[1], flip=True)
    sample = build("PackDetInputs")(results)["data_samples"]
    assert set(sample.metainfo) == {"img_id", "img_path", "ori_shape", "img_shape", "flip"}
    sample = build("PackDetInputs", meta_keys=("img_id", "instances"))(results)["data_samples"]
    assert sample.metainfo == {"img_id": 3, "instances": [1]}
    assert build("PackDetInputs", meta_keys="img_id")(results)["data_samples"].metainfo == {"img_id": 3}


def test_no_truth_and_no_flags(build):
    sample = build("PackDetInputs")({"img": np.zeros((4, 5, 3), np.uint8)})["data_samples"]
    assert len(sample.gt_instances) == 0
    results = make()
    del results["gt_ignore_flags"]
    assert len(build("PackDetInputs")(results)["data_samples"].gt_instances) == 6


def test_samples_of_different_size_are_collated(build):
    pack = build("PackDetInputs")
    batch = pseudo_collate([pack(make(height)) for height in (50, 60)])
    assert [tuple(one.shape) for one in batch["inputs"]] == [(3, 50, 80), (3, 60, 80)]
    assert len(batch["data_samples"]) == 2
