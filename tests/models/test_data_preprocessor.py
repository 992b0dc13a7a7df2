from __future__ import annotations

import copy
import random
import types

import pytest
import torch
import torch.nn.functional as F
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData, PixelData

from densehead.registry import MODELS
from densehead.structures import DetDataSample

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
SIZES = [(50, 70), (64, 33), (41, 90)]


def build(**kwargs):
    return MODELS.build(dict(type="DetDataPreprocessor", **kwargs))


def images(dtype=torch.uint8, sizes=SIZES, channels=3) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    drawn = [torch.randint(0, 256, (channels, *size), generator=generator) for size in sizes]
    return [image.to(dtype) + (0.25 if dtype.is_floating_point else 0) for image in drawn]


def samples(labels=((0, 2), (1,), ())) -> list[DetDataSample]:
    made = []
    for index, one in enumerate(labels):
        sample = DetDataSample(metainfo=dict(img_id=10 + index, img_path=f"{index}.jpg", img_shape=SIZES[index]))
        boxes = torch.arange(4.0).repeat(len(one), 1)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor(one, dtype=torch.long))
        sample.ignored_instances = InstanceData(bboxes=torch.tensor([[10.0, 20.0, 30.0, 40.0]]))
        made.append(sample)
    return made


@pytest.mark.parametrize("swap", [None, "bgr_to_rgb", "rgb_to_bgr"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64])
@pytest.mark.parametrize(("divisor", "size"), [(1, (64, 90)), (32, (64, 96))])
def test_images_are_normalised_and_then_padded(dtype, swap, divisor, size):
    inputs = images(dtype)
    before = copy.deepcopy(inputs)
    preprocessor = build(mean=MEAN, std=STD, pad_size_divisor=divisor, pad_value=7, **({swap: True} if swap else {}))
    batch = preprocessor(dict(inputs=inputs))["inputs"]
    assert batch.dtype == torch.float32
    assert batch.shape == (3, 3, *size)
    for place, image in zip(batch, before, strict=True):
        height, width = image.shape[1:]
        expected = torch.full((3, *size), 7.0)
        for channel in range(3):
            values = image[2 - channel if swap else channel].float()
            expected[channel, :height, :width] = (values - MEAN[channel]) / STD[channel]
        torch.testing.assert_close(place, expected)
    for after, image in zip(inputs, before, strict=True):
        assert torch.equal(after, image)


def test_without_normalisation_values_stay():
    inputs = images()
    batch = build()(dict(inputs=inputs))["inputs"]
    assert torch.equal(batch[0, :, :50, :70], inputs[0].float())
    assert batch[0, :, 50:].abs().sum() == batch[0, :, :, 70:].abs().sum() == 0


def test_one_mean_for_all_channels_and_gray_images():
    for channels in (1, 3):
        inputs = images(channels=channels)
        batch = build(mean=[10.0], std=[4.0])(dict(inputs=inputs))["inputs"]
        torch.testing.assert_close(batch[2, :, :41, :90], (inputs[2].float() - 10) / 4)


def test_images_of_one_size_may_come_as_one_tensor():
    inputs = images(sizes=[(41, 50)] * 3)
    preprocessor = build(mean=MEAN, std=STD, bgr_to_rgb=True, pad_size_divisor=32)
    together = preprocessor(dict(inputs=torch.stack(inputs), data_samples=samples()))
    apart = preprocessor(dict(inputs=inputs, data_samples=samples()))
    assert torch.equal(together["inputs"], apart["inputs"])
    assert [sample.pad_shape for sample in together["data_samples"]] == [(64, 64)] * 3


def test_samples_learn_the_sizes():
    data = dict(inputs=images(), data_samples=samples())
    out = build(pad_size_divisor=16)(data)["data_samples"]
    assert [sample.pad_shape for sample in out] == [(64, 80), (64, 48), (48, 96)]
    assert [sample.batch_input_shape for sample in out] == [(64, 96)] * 3
    assert "pad_shape" not in data["data_samples"][0]


def test_samples_may_be_absent():
    assert build()(dict(inputs=images()), True)["data_samples"] is None
    assert build()(dict(inputs=images(), data_samples=None))["data_samples"] is None


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_a_box_that_is_not_finite_names_its_image(value):
    truth = samples()
    truth[0].gt_instances.bboxes[1, 2] = value
    message = rf"^image 0\.jpg \(img_id 10\) has the box \(0, 1, {value}, 3\) as its object 1: its sides must be finite"
    with pytest.raises(ValueError, match=message):
        build()(dict(inputs=images(), data_samples=truth), True)
    build()(dict(inputs=images(), data_samples=truth), False)


@pytest.mark.parametrize(("wrong", "labels"), [(3, ((0, 2), (3, 1), ())), (-1, ((0, 2), (1, -1), ()))])
def test_a_label_outside_the_classes_names_its_image(wrong, labels):
    preprocessor = build()
    preprocessor.num_classes = 3
    message = rf"image 1\.jpg \(img_id 11\) has the label {wrong}, but bbox_head\.num_classes=3 allows 0 to 2: set"
    with pytest.raises(ValueError, match=message):
        preprocessor(dict(inputs=images(), data_samples=samples(labels)), True)
    preprocessor(dict(inputs=images(), data_samples=samples(labels)), False)
    preprocessor.num_classes = 4
    preprocessor(dict(inputs=images(), data_samples=samples(((0, 2), (3,), ()))), True)


def test_samples_without_truth_are_not_looked_at():
    preprocessor = build()
    preprocessor.num_classes = 3
    bare = [DetDataSample(metainfo=dict(img_path="a.jpg")) for _ in SIZES]
    assert len(preprocessor(dict(inputs=images(), data_samples=bare), True)["data_samples"]) == 3


@pytest.mark.parametrize("convert", [True, False])
def test_box_classes_become_tensors(convert):
    data = dict(inputs=images(), data_samples=samples())
    boxes = torch.rand(1, 4)
    data["data_samples"][1].gt_instances.bboxes = Boxes(boxes)
    out = build(boxtype2tensor=convert)(data)["data_samples"]
    if convert:
        torch.testing.assert_close(out[1].gt_instances.bboxes, boxes)
    else:
        assert isinstance(out[1].gt_instances.bboxes, Boxes)


class Boxes:
    def __init__(self, tensor):
        self.tensor = tensor

    def __len__(self):
        return len(self.tensor)


class Masks:
    def __init__(self, size=None, value=None, count=0):
        self.size, self.value, self.count = size, value, count

    def pad(self, size, pad_val):
        return Masks(size, pad_val, self.count)

    def __len__(self):
        return self.count


@pytest.mark.parametrize("training", [True, False])
def test_masks_and_segmentation_maps_are_padded_while_training(training):
    data = dict(inputs=images(), data_samples=samples())
    for sample, (height, width) in zip(data["data_samples"], SIZES, strict=True):
        sample.gt_instances.masks = Masks(count=len(sample.gt_instances))
        sample.gt_sem_seg = PixelData(sem_seg=torch.ones(1, height, width))
    preprocessor = build(pad_size_divisor=32, pad_mask=True, mask_pad_value=5, pad_seg=True, seg_pad_value=9)
    out = preprocessor(data, training)["data_samples"]
    if not training:
        assert out[0].gt_instances.masks.size is None
        assert out[0].gt_sem_seg.sem_seg.shape == (1, 50, 70)
        return
    for sample, (height, width) in zip(out, SIZES, strict=True):
        assert (sample.gt_instances.masks.size, sample.gt_instances.masks.value) == ((64, 96), 5)
        expected = torch.full((1, 64, 96), 9.0)
        expected[:, :height, :width] = 1
        assert torch.equal(sample.gt_sem_seg.sem_seg, expected)


def test_a_fixed_size_while_training():
    preprocessor = build(batch_augments=[dict(type="BatchFixedSizePad", size=(80, 100), img_pad_value=3)])
    data = dict(inputs=images(), data_samples=samples())
    out = preprocessor(data, True)
    assert out["inputs"].shape == (3, 3, 80, 100)
    assert (out["inputs"][:, :, 64:] == 3).all()
    assert (out["inputs"][:, :, :, 90:] == 3).all()
    assert (out["inputs"][0, :, 50:64, :90] == 0).all()
    assert {(s.batch_input_shape, s.pad_shape) for s in out["data_samples"]} == {((80, 100), (80, 100))}
    assert preprocessor(data, False)["inputs"].shape == (3, 3, 64, 90)


def test_a_fixed_size_pads_masks_and_leaves_larger_batches():
    data = samples()
    for sample in data:
        sample.gt_instances.masks = Masks(count=len(sample.gt_instances))
        sample.gt_sem_seg = PixelData(sem_seg=torch.ones(1, 50, 70))
    pad = MODELS.build(dict(type="BatchFixedSizePad", size=(60, 60), pad_mask=True, pad_seg=True))
    inputs, out = pad(torch.rand(3, 3, 50, 70), data)
    assert inputs.shape == (3, 3, 60, 70)
    assert out[0].gt_instances.masks.size == out[0].batch_input_shape == (60, 70)
    assert out[0].gt_sem_seg.sem_seg[0, 50:].eq(255).all()
    large = torch.rand(3, 3, 60, 61)
    assert pad(large, None)[0] is large
    assert pad(torch.rand(3, 3, 50, 50), None)[1] is None


def test_random_sizes_hold_for_an_interval_and_take_the_boxes_along():
    hub = MessageHub.get_instance("test_random_sizes")
    resize = MODELS.build(dict(type="BatchSyncRandomResize", random_size_range=(64, 256), interval=2, size_divisor=32))
    random.seed(3)
    drawn = [random.randint(2, 8) for _ in range(2)]
    random.seed(3)
    expected = [(60, 90)] * 2 + [(32 * drawn[0], 32 * int(1.5 * drawn[0]))] * 2
    for iteration, (height, width) in enumerate(expected):
        hub.update_info("iter", iteration)
        data = samples(((0,), (0, 1)))
        for sample in data:
            sample.set_metainfo(dict(img_shape=(45, 90), pad_shape=(60, 90), batch_input_shape=(60, 90)))
        batch = torch.rand(2, 3, 60, 90)
        inputs, out = resize(batch, data)
        scale_y, scale_x = height / 60, width / 90
        torch.testing.assert_close(inputs, F.interpolate(batch, (height, width), mode="bilinear", align_corners=False))
        for sample in out:
            assert sample.batch_input_shape == (height, width)
            assert sample.pad_shape == (int(60 * scale_y), int(90 * scale_x))
            assert sample.img_shape == (int(45 * scale_y), int(90 * scale_x))
            box = torch.tensor([10 * scale_x, 20 * scale_y, 30 * scale_x, 40 * scale_y])
            torch.testing.assert_close(sample.ignored_instances.bboxes[0], box)
        box = torch.tensor([0, scale_y, 2 * scale_x, 3 * scale_y])
        torch.testing.assert_close(out[1].gt_instances.bboxes, box.repeat(2, 1))


@pytest.fixture(autouse=True)
def _own_message_hub():
    """Leave the message hub of other tests alone."""
    hubs = dict(MessageHub._instance_dict)
    yield
    MessageHub._instance_dict.clear()
    MessageHub._instance_dict.update(hubs)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        (dict(mean=MEAN), r"data_preprocessor\.mean and std must both be given or both be None"),
        (
            dict(mean=[1.0, 2.0], std=[1.0, 2.0]),
            r"data_preprocessor\.mean must have 1 or 3 values, but got \[1",
        ),
        (dict(mean=MEAN, std=[1.0, 2.0]), r"data_preprocessor\.std must have 1 or 3 values"),
        (dict(bgr_to_rgb=True, rgb_to_bgr=True), r"bgr_to_rgb and data_preprocessor\.rgb_to_bgr exclude each other"),
    ],
)
def test_keys_that_do_not_fit(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


@pytest.mark.parametrize(
    ("kwargs", "inputs", "message"),
    [
        ({}, [torch.rand(4, 5)], r"inputs must be tensors of shape \(C, H, W\).* got \[\(4, 5\)\]"),
        ({}, torch.rand(3, 4, 5), r"inputs must be tensors of shape \(C, H, W\)"),
        ({}, [torch.rand(3, 4, 5), torch.rand(1, 4, 5)], r"all with the same C, but got \[\(3, 4, 5\), \(1, 4, 5\)\]"),
        ({}, [types.SimpleNamespace()], r"inputs must be tensors .* got \[<class 'types\.SimpleNamespace'>\]"),
        ({}, [], r"inputs must be tensors"),
        (
            dict(bgr_to_rgb=True),
            images(channels=1),
            r"bgr_to_rgb needs images of 3 channels, but got 1",
        ),
        (
            dict(mean=MEAN, std=STD),
            images(channels=1),
            r"mean and std have 3 and 3 values, but .* 1 channels",
        ),
        (
            dict(mean=[1.0], std=STD),
            images(channels=1),
            r"mean and std have 1 and 3 values, but .* 1 channels",
        ),
    ],
)
def test_images_that_do_not_fit(kwargs, inputs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)(dict(inputs=inputs))
