from __future__ import annotations

import pytest
from mmengine.registry import DefaultScope

from densehead.registry import DATASETS


@pytest.fixture
def inner(coco, write_coco):
    keys = write_coco(coco, pipeline=[{"type": "LoadAnnotations"}])
    return {"type": "CocoDataset", **keys}


@pytest.fixture(params=[None, "densehead", "mmdet"])
def scope(request):
    """Wrappers work with and without a default scope."""
    with DefaultScope.overwrite_default_scope(request.param):
        yield


def test_repeat(inner, scope):
    dataset = DATASETS.build({"type": "RepeatDataset", "times": 3, "dataset": inner})
    assert len(dataset) == 9
    assert dataset[8]["img_id"] == dataset[2]["img_id"] == 9
    assert dataset.metainfo["classes"] == ("cat", "dog", "bird")


def test_concat_in_repeat(inner, scope):
    joined = {"type": "ConcatDataset", "datasets": [inner, {**inner, "indices": 1}], "ignore_keys": ["dataset_type"]}
    dataset = DATASETS.build({"type": "RepeatDataset", "times": 2, "dataset": joined})
    assert len(dataset) == 8
    assert [dataset.get_data_info(index)["img_id"] for index in range(5)] == [7, 3, 9, 7, 7]
    assert [dataset.dataset.get_dataset_source(index) for index in range(4)] == [0, 0, 0, 1]


def test_concat_refuses_other_classes(inner, scope):
    other = {**inner, "metainfo": {"classes": ("dog", "cat", "bird")}}
    with pytest.raises(ValueError, match="does not match"):
        DATASETS.build({"type": "ConcatDataset", "datasets": [inner, other]})


@pytest.mark.parametrize("joined", [False, True])
def test_class_balanced(inner, scope, joined):
    inside = {"type": "ConcatDataset", "datasets": [inner]} if joined else inner
    dataset = DATASETS.build({"type": "ClassBalancedDataset", "oversample_thr": 0.9, "dataset": inside})
    # each class is in a third of the images: sqrt(0.9 * 3) = 1.6, rounded up; an empty image comes once
    assert [dataset.get_data_info(index)["img_id"] for index in range(len(dataset))] == [7, 7, 3, 3, 9]
