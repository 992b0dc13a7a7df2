"""Which images are shown, and that they are those that a training sees."""

import random
import shutil

import cv2
import numpy as np
import pytest
import torch

from densehead.apis.analysis.samples import build_dataset, choose_images, load_sample, with_truth
from densehead.engine.hooks.seeds import mix
from tests.engine.tiny import tiny_config


@pytest.fixture
def config(tmp_path, data_root):
    return tiny_config(tmp_path, data_root)


@pytest.fixture
def dataset(config):
    return build_dataset(config)


def test_augmentation_is_that_of_the_first_epoch_of_a_training(dataset):
    """As the seeding hook has it; of eight images some are flipped and some are not."""
    flipped = []
    for index in range(8):
        sample = load_sample(dataset, index, seed=3)
        seed = mix(3, 0, index)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)
        expected = dataset[index]
        assert torch.equal(sample["inputs"], expected["inputs"])
        boxes = sample["data_samples"].gt_instances.bboxes
        assert torch.equal(boxes, expected["data_samples"].gt_instances.bboxes)
        flipped.append(bool(sample["data_samples"].flip))
    assert 0 < sum(flipped) < 8


def test_without_augmentation_images_and_boxes_are_those_of_the_files(config):
    """The pipeline of the validation enlarges images; it reads the boxes after that, where they would not follow."""
    config.val_dataloader.dataset.pipeline[1].scale = (128, 128)
    for split in ("train", "val"):
        dataset = build_dataset(config, split, augment=False)
        for index in range(3):
            info = dataset.get_data_info(index)
            sample = load_sample(dataset, index, seed=0)
            assert sample["inputs"].shape == (3, 128, 128)
            boxes = np.array([one["bbox"] for one in info["instances"]])
            assert sample["data_samples"].gt_instances.bboxes.numpy() == pytest.approx(2 * boxes, abs=1e-3)
            image = cv2.resize(cv2.imread(info["img_path"]), (128, 128), interpolation=cv2.INTER_LINEAR)
            assert np.abs(sample["inputs"].numpy().transpose(1, 2, 0).astype(int) - image).mean() < 2


def test_annotations_are_read_right_after_the_image():
    load, resize, read, pack = ({"type": name} for name in ("Load", "Resize", "mmdet.LoadAnnotations", "Pack"))
    assert with_truth([load, resize, read, pack]) == [load, read, resize, pack]
    assert with_truth([load, pack]) == [load, {"type": "LoadAnnotations", "with_bbox": True}, pack]


def test_pipelines_reach_data_sets_in_wrappers(config):
    inner = config.train_dataloader.dataset
    config.train_dataloader.dataset = {
        "type": "RepeatDataset",
        "times": 2,
        "dataset": {"type": "ConcatDataset", "datasets": [inner, inner]},
    }
    dataset = build_dataset(config, augment=False)
    assert len(dataset) == 32
    samples = [load_sample(dataset, index, seed=0) for index in (1, 9, 31)]
    assert torch.equal(samples[0]["inputs"], samples[1]["inputs"])
    assert "flip" not in samples[2]["data_samples"]


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"num": 1}, [0]),
        ({"num": 3}, [0, 4, 7]),
        ({"num": 100}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"indices": [5, 0, -1]}, [5, 0, 7]),
        ({"images": ["000003.jpg", "000001"]}, [3, 1]),
    ],
)
def test_images_are_chosen_by_number_and_by_name(dataset, wanted, expected):
    assert choose_images(dataset, **wanted) == expected


def test_images_are_chosen_by_path(dataset, monkeypatch):
    path = dataset.get_data_info(6)["img_path"]
    assert choose_images(dataset, images=[path]) == [6]
    monkeypatch.chdir(path.rpartition("/images/")[0])
    assert choose_images(dataset, images=["images/000006.jpg"]) == [6]


def test_a_name_that_is_none_or_stands_for_several(config, dataset, tmp_path):
    with pytest.raises(ValueError, match=r"--images 00003.jpg: none of the 8 images .* Did you mean '000003.jpg'"):
        choose_images(dataset, images=["00003.jpg"])
    with pytest.raises(ValueError, match=r"--images street: none of the 8 images .* The first of them is .*000000.jpg"):
        choose_images(dataset, images=["street"])
    inner = config.train_dataloader.dataset
    shutil.copytree(inner.data_root, tmp_path / "copy")
    other = {**inner, "data_root": str(tmp_path / "copy")}
    config.train_dataloader.dataset = {"type": "ConcatDataset", "datasets": [inner, other]}
    both = build_dataset(config)
    with pytest.raises(
        ValueError, match=r"--images 000003.jpg may be any of .*000003.jpg, .*000003.jpg: give its path"
    ):
        choose_images(both, images=["000003.jpg"])
    assert choose_images(both, images=[both.get_data_info(11)["img_path"]]) == [11]


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"num": 0}, "--num must be at least 1, but got 0"),
        ({"indices": [8]}, "--index 8: the data set has 8 images, 0 to 7"),
        ({"indices": [-9]}, "--index -9: the data set has 8 images, 0 to 7"),
    ],
)
def test_numbers_that_no_image_has(dataset, wanted, message):
    with pytest.raises(ValueError, match=message):
        choose_images(dataset, **wanted)


def test_an_image_that_the_pipeline_drops_is_not_replaced_by_another(config):
    """Data sets take another image where the pipeline gives none; here that would be shown under a wrong name."""
    filtering = {"type": "FilterAnnotations", "min_gt_bbox_wh": (1000, 1000), "keep_empty": True}
    config.train_dataloader.dataset.pipeline.insert(2, filtering)
    dataset = build_dataset(config)
    first = dataset.pipeline.transforms[2]
    first.min_gt_bbox_wh = (1, 1)
    drops = dataset.get_data_info(2)["img_path"]
    original = first.transform
    first.transform = lambda results: None if results["img_path"] == drops else original(results)
    assert load_sample(dataset, 1, seed=0)["data_samples"].img_path != drops
    with pytest.raises(ValueError, match=r"000002.jpg: the pipeline drops this image.*--no-augment shows it"):
        load_sample(dataset, 2, seed=0)


def test_what_is_not_there(config):
    with pytest.raises(ValueError, match="split must be one of train, val, but got 'test'"):
        build_dataset(config, "test")
    config.pop("val_dataloader")
    with pytest.raises(ValueError, match="has no val_dataloader, which this run needs"):
        build_dataset(config, "val")
    with pytest.raises(ValueError, match="has no val_dataloader"):
        build_dataset(config, augment=False)
