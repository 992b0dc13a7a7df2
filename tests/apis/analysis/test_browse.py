from __future__ import annotations

import os

import cv2
import numpy as np
import pytest
import torch
from mmcv.transforms import Normalize
from PIL import Image

from densehead.apis.analysis.browse import Browser, browse
from densehead.apis.analysis.inputs import normalisation_of, preprocess
from densehead.datasets import transforms as T
from densehead.engine.hooks.seeds import SeedHook
from densehead.models.data_preprocessor import DetDataPreprocessor
from densehead.registry import DATASETS, TRANSFORMS
from densehead.structures import DetDataSample
from densehead.visualization.inputs import as_picture

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def picture(height=20, width=30):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def packed(image_bgr):
    sample = DetDataSample(metainfo={"img_shape": image_bgr.shape[:2]})
    return {"inputs": torch.from_numpy(np.ascontiguousarray(image_bgr.transpose(2, 0, 1))), "data_samples": sample}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"bgr_to_rgb": True},
        {"mean": MEAN, "std": STD, "bgr_to_rgb": True, "pad_size_divisor": 32, "pad_value": 7},
        {"mean": MEAN[::-1], "std": STD, "pad_size_divisor": 32},
    ],
)
@pytest.mark.parametrize("normalised_before", [None, True, False])
def test_normalisation_and_channels_are_undone(options, normalised_before):
    """Whoever normalises, and in whichever order the channels are then."""
    rgb = picture()
    image = rgb[..., ::-1]
    normalize = None
    if normalised_before is not None:
        normalize = Normalize(MEAN, STD, to_rgb=normalised_before)
        image = normalize.transform({"img": np.ascontiguousarray(image)})["img"]
    preprocessor = DetDataPreprocessor(**options)
    inputs, _ = preprocess(packed(image), preprocessor, training=False)
    got = as_picture(inputs[:, :20, :30], preprocessor, normalize)
    assert (got == rgb).all()


def test_grey_images():
    grey = picture()[..., :1]
    inputs, _ = preprocess(packed(grey), DetDataPreprocessor(mean=[9.0], std=[3.0]), training=False)
    assert (as_picture(inputs, DetDataPreprocessor(mean=[9.0], std=[3.0])) == np.repeat(grey, 3, 2)).all()


def test_the_last_normalisation_of_a_pipeline_counts():
    last = Normalize(MEAN, STD)
    assert normalisation_of([Normalize(STD, STD), T.RandomFlip(prob=0.5), last, T.PackDetInputs()]) is last
    assert normalisation_of([T.PackDetInputs()]) is None


def test_a_view_is_the_image_and_its_boxes(config):
    """Without augmentation the picture is the file, but for what a JPEG loses nowhere."""
    config.train_dataloader.dataset.pipeline = [
        step for step in config.train_dataloader.dataset.pipeline if step["type"] != "RandomFlip"
    ]
    browser = Browser(config)
    view = browser.view(3)
    original = browser.original(view)
    assert (view.picture == original.picture).all()
    torch.testing.assert_close(
        view.sample.gt_instances.bboxes.double(), original.sample.gt_instances.bboxes, rtol=0, atol=1e-4
    )
    assert view.sample.gt_instances.labels.tolist() == original.sample.gt_instances.labels.tolist()
    assert (
        view.title.endswith(f"(input): 64 x 64, {len(view.sample.gt_instances)} objects") or " 1 object" in view.title
    )
    assert "(original): 64 x 64" in original.title


def test_flipped_pixels_have_flipped_boxes(config):
    config.train_dataloader.dataset.pipeline[-2]["prob"] = 1.0
    browser = Browser(config)
    view = browser.view(0)
    original = browser.original(view)
    assert (view.picture == original.picture[:, ::-1]).all()
    boxes = original.sample.gt_instances.bboxes
    torch.testing.assert_close(view.sample.gt_instances.bboxes[:, 0].double(), 64 - boxes[:, 2], rtol=0, atol=1e-4)


def test_augmentation_is_that_of_the_first_epoch_with_this_seed(config, tmp_path):
    """Whatever is looked at before, and as the training's hook seeds it."""
    browser = Browser(config, seed=5)
    pictures = [browser.view(index).picture for index in reversed(range(8))]
    assert (Browser(config, seed=5).view(6).picture == pictures[1]).all()
    flips = [browser.view(index).sample.flip for index in range(8)]
    assert len(set(flips)) == 2

    class Runner:
        seed, rank, _randomness_cfg, train_loop = 5, 0, {}, None

    from mmengine.runner import EpochBasedTrainLoop
    from torch.utils.data import BatchSampler, DataLoader

    class Sampler(list):
        epoch, seed = 0, 0

    loader = DataLoader(browser.dataset, batch_sampler=BatchSampler(Sampler(range(8)), 4, False), collate_fn=list)
    Runner.train_dataloader = loader
    Runner.train_loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop)
    SeedHook().before_train(Runner)
    assert [one["data_samples"].flip for batch in loader for one in batch] == flips


def test_padding_is_shown_on_demand(config):
    config.model.data_preprocessor.pad_size_divisor = 48
    assert Browser(config).view(0).picture.shape == (64, 64, 3)
    padded = Browser(config, padding=True).view(0).picture
    assert padded.shape == (96, 96, 3)
    assert (padded[64:] == np.array(MEAN).round().astype(np.uint8)).all()  # 0 after normalisation


def test_truth_of_a_test_set_is_scaled_with_its_image(config):
    """In the config boxes are loaded after Resize, in pixels of the original, as metrics want them."""
    for step in config.test_dataloader.dataset.pipeline:
        if step["type"] == "Resize":
            step.scale = (128, 128)
    browser = Browser(config, "test")
    view = browser.view(0)
    assert view.picture.shape == (128, 128, 3)
    original = browser.original(view).sample.gt_instances.bboxes
    torch.testing.assert_close(view.sample.gt_instances.bboxes.double(), 2 * original, rtol=0, atol=1e-3)


@TRANSFORMS.register_module()
class SideBySide:
    """Put two images side by side, with the objects of both: as little of a Mosaic as needed."""

    def __call__(self, results):
        other = results["mix_results"][0]
        shift = np.float32([results["img"].shape[1], 0] * 2)
        results["img"] = np.concatenate([results["img"], other["img"]], 1)
        results["img_shape"] = results["img"].shape[:2]
        for key, moved in (("gt_bboxes", other["gt_bboxes"] + shift), ("gt_bboxes_labels", other["gt_bboxes_labels"])):
            results[key] = np.concatenate([results[key], moved])
        results["gt_ignore_flags"] = np.zeros(len(results["gt_bboxes"]), dtype=bool)
        return results


@DATASETS.register_module()
class MixedDataset:
    """A wrapper that gives several images to its transforms, in the manner of mmdetection's MultiImageMixDataset."""

    def __init__(self, dataset, pipeline):
        self.dataset = DATASETS.build(dataset)
        self.pipeline = [TRANSFORMS.build(step) for step in pipeline]
        self.metainfo = self.dataset.metainfo

    def __len__(self):
        return len(self.dataset)

    def __getitem__(self, index):
        results = self.dataset[index]
        results["mix_results"] = [self.dataset[(index + 1) % len(self)]]
        for step in self.pipeline:
            results = step(results)
        return results


def test_wrappers_that_mix_images(config, tmp_path):
    inner = config.train_dataloader.dataset
    *before, pack = inner.pipeline
    inner.pipeline = [step for step in before if step["type"] != "RandomFlip"]
    config.train_dataloader.dataset = dict(type="MixedDataset", dataset=inner, pipeline=[dict(type="SideBySide"), pack])
    browser = Browser(config)
    views = browse(browser, tmp_path / "out", count=3, original=True, single=True)
    for view in views:
        first, second = (browser.dataset.dataset.get_data_info((view.index + k) % 8) for k in (0, 1))
        assert view.picture.shape == (64, 128, 3)
        assert len(view.sample.gt_instances) == len(first["instances"]) + len(second["instances"])
        assert view.name.startswith(os.path.basename(first["img_path"]))
        original = browser.original(view)
        assert (view.picture[:, :64] == original.picture).all()


def test_a_sample_drawn_in_place_of_another_has_its_own_original(config):
    """Where a pipeline gives up on an image, the data set draws another."""
    browser = Browser(config)
    views = [browser.view(index) for index in range(2)]
    swapped = type(views[0])(0, views[1].name, views[1].picture, views[1].sample)
    assert (browser.original(swapped).picture == browser.original(views[1]).picture).all()


def test_sheets_and_single_files(config, tmp_path, monkeypatch):
    monkeypatch.setattr("densehead.apis.analysis.browse.SHEET_PICTURES", 8)
    browser = Browser(config)
    views = browse(browser, tmp_path / "out", count=5, original=True, single=True)
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {"sheet_1.png", "sheet_2.png"} | {
        f"{view.index:06d}_{view.name.partition('.')[0]}.png" for view in views
    }
    with Image.open(tmp_path / "out" / "sheet_1.png") as sheet, Image.open(tmp_path / "out" / "sheet_2.png") as rest:
        assert sheet.height > 1.8 * rest.height  # two rows of four, and one of two
    assert [view.index for view in views] == browser.choose(5) == sorted(browser.choose(5))
    assert browser.choose(99) == list(range(8))
    assert Browser(config, seed=1).choose(5) != browser.choose(5)


def test_images_without_truth_are_drawn(config, tmp_path):
    config.train_dataloader.dataset.pipeline = [
        step
        for step in config.train_dataloader.dataset.pipeline
        if step["type"] not in ("LoadAnnotations", "RandomFlip")
    ]
    (view,) = browse(Browser(config), tmp_path / "out", count=1)
    assert view.title.endswith("0 objects")


def test_what_cannot_be_shown_is_named(config, tmp_path):
    browser = Browser(config)
    with pytest.raises(ValueError, match="number of images must be at least 1, but got 0"):
        browser.choose(0)
    config.train_dataloader.dataset.pipeline = config.train_dataloader.dataset.pipeline[:-1]
    with pytest.raises(ValueError, match=r"sample 0 is a dict of .*'gt_bboxes'.*PackDetInputs"):
        Browser(config).view(0)


def test_files_are_as_read(config):
    """The picture of an original is what OpenCV reads."""
    browser = Browser(config)
    view = browser.view(1)
    assert (browser.original(view).picture[..., ::-1] == cv2.imread(view.sample.img_path)).all()
