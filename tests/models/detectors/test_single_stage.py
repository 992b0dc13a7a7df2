from __future__ import annotations

import copy

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.model import BaseModule
from mmengine.optim import OptimWrapper
from mmengine.structures import InstanceData

from densehead.models.detectors import single_stage
from densehead.registry import MODELS
from densehead.structures import DetDataSample

STRIDES = [8, 16, 32, 64]
GN = dict(type="GN", num_groups=4)
FCOS_HEAD = dict(
    type="FCOSHead",
    num_classes=3,
    in_channels=16,
    feat_channels=16,
    stacked_convs=1,
    strides=STRIDES,
    regress_ranges=((-1, 32), (32, 64), (64, 128), (128, 1e8)),
    norm_cfg=GN,
)
ATSS_HEAD = dict(
    type="ATSSHead",
    loss_cls=dict(type="FocalLoss", use_sigmoid=True),
    loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
    num_classes=3,
    in_channels=16,
    feat_channels=16,
    stacked_convs=1,
    norm_cfg=GN,
    anchor_generator=dict(
        type="AnchorGenerator", ratios=[1.0], octave_base_scale=8, scales_per_octave=1, strides=STRIDES
    ),
)
TEST_CFG = dict(nms_pre=100, score_thr=0.001, nms=dict(type="nms", iou_threshold=0.6), max_per_img=20)


def config(kind: str = "FCOS", **kwargs) -> dict:
    parts = dict(
        type=kind,
        data_preprocessor=dict(
            type="DetDataPreprocessor", mean=[128.0], std=[64.0], bgr_to_rgb=True, pad_size_divisor=64
        ),
        backbone=dict(type="ResNet", depth=18, base_channels=8, norm_eval=False),
        neck=dict(
            type="FPN",
            in_channels=[8, 16, 32, 64],
            out_channels=16,
            start_level=1,
            num_outs=4,
            add_extra_convs="on_output",
        ),
        bbox_head=ATSS_HEAD if kind == "ATSS" else FCOS_HEAD,
        train_cfg=dict(assigner=dict(type="ATSSAssigner", topk=9)) if kind == "ATSS" else None,
        test_cfg=TEST_CFG,
    )
    return copy.deepcopy({**parts, **kwargs})


def build(kind: str = "FCOS", **kwargs):
    torch.manual_seed(0)
    return MODELS.build(config(kind, **kwargs))


def data() -> dict:
    generator = torch.Generator().manual_seed(0)
    inputs, samples = [], []
    for index, size in enumerate([(100, 130), (120, 90)]):
        inputs.append(torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8))
        meta = dict(img_id=index, img_path=f"{index}.jpg", img_shape=size, ori_shape=(2 * size[0], 2 * size[1]))
        sample = DetDataSample(metainfo=dict(meta, scale_factor=(0.5, 0.5)))
        boxes = torch.tensor([[10.0, 10, 40, 50], [30, 20, 80, 90], [0, 0, 85, 100]])
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([0, 2, 1]))
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


class RecordingHead(BaseModule):
    """A head without strides, classes or channels, that puts out what it is given."""

    def __init__(self, train_cfg=None, test_cfg=None):
        super().__init__()
        self.train_cfg, self.test_cfg = train_cfg, test_cfg

    def forward(self, x):
        return (x,)

    def predict(self, x, batch_data_samples, rescale=False):
        self.rescale = rescale
        return [InstanceData(bboxes=torch.full((1, 4), float(index))) for index in range(len(batch_data_samples))]


@pytest.mark.parametrize("kind", ["SingleStageDetector", "FCOS", "ATSS"])
def test_losses_reach_every_parameter(kind):
    model = build(kind).train()
    batch = model.data_preprocessor(data(), True)
    losses = model(**batch, mode="loss")
    assert all(value.ndim == 0 and value.isfinite() for value in losses.values())
    total, log = model.parse_losses(losses)
    torch.testing.assert_close(total, sum(value for name, value in losses.items() if "loss" in name))
    assert set(log) == {*losses, "loss"}
    assert set(losses) - {name for name in losses if "loss" in name} == {"num_pos", "num_missed"}
    total.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None or not p.grad.isfinite().all()]
    assert not without


@pytest.mark.parametrize("kind", ["FCOS", "ATSS"])
def test_a_training_step_lowers_the_loss(kind):
    model = build(kind)
    model.init_weights()
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.005))
    losses = [model.train().train_step(data(), optimizer)["loss"].item() for _ in range(5)]
    assert losses[-1] < losses[0]


def test_detections_are_added_to_the_samples():
    model = build().eval()
    with torch.no_grad():
        samples = model.test_step(data())
    for sample in samples:
        found = sample.pred_instances
        assert 0 < len(found) <= 20
        assert found.bboxes.shape == (len(found), 4)
        assert found.scores.shape == found.labels.shape == (len(found),)
        assert sample.batch_input_shape == (128, 192)
        height, width = sample.ori_shape
        assert found.bboxes.min() >= 0
        assert (found.bboxes.amax(0) <= torch.tensor([width, height, width, height])).all()
    with torch.no_grad():
        batch = model.data_preprocessor(data())
        small = model.predict(batch["inputs"], batch["data_samples"], rescale=False)
    torch.testing.assert_close(small[0].pred_instances.bboxes * 2, samples[0].pred_instances.bboxes)


def test_maps_of_the_head_without_samples():
    model = build().eval()
    maps = model(torch.rand(1, 3, 64, 64))
    assert [tuple(level.shape) for level in maps[0]] == [(1, 3, 64 // stride, 64 // stride) for stride in STRIDES]


def test_names():
    model = build()
    names = list(model.state_dict())
    assert {name.partition(".")[0] for name in names} == {"backbone", "neck", "bbox_head"}
    assert names[0] == "backbone.conv1.weight"
    assert {"backbone.layer4.1.bn2.running_var", "neck.fpn_convs.3.conv.bias"} < set(names)


@pytest.mark.parametrize("as_config", [dict, ConfigDict])
@pytest.mark.parametrize("kind", ["FCOS", "ATSS"])
def test_configs_stay_as_they_are(kind, as_config):
    cfg = as_config(config(kind))
    before = copy.deepcopy(cfg)
    model = MODELS.build(cfg)
    model.train_step(data(), OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.001)))
    assert cfg == before


def test_the_head_gets_the_configs_of_training_and_test():
    model = build(bbox_head=dict(type=RecordingHead), train_cfg=dict(a=1), test_cfg=dict(b=2))
    assert (model.bbox_head.train_cfg, model.bbox_head.test_cfg) == (dict(a=1), dict(b=2))
    own = build(bbox_head=dict(type=RecordingHead, test_cfg=dict(c=3)), test_cfg=None)
    assert (own.bbox_head.train_cfg, own.bbox_head.test_cfg) == (None, dict(c=3))


def test_a_head_that_knows_less_is_not_checked():
    model = build(bbox_head=dict(type=RecordingHead)).eval()
    samples = model.val_step(data())
    assert [sample.pred_instances.bboxes[0, 0].item() for sample in samples] == [0, 1]
    assert model.bbox_head.rescale is True
    assert model.data_preprocessor.num_classes is None


def test_without_a_neck_the_head_reads_the_backbone():
    backbone = dict(type="ResNet", depth=18, base_channels=16, out_indices=(0,))
    head = dict(FCOS_HEAD, strides=[4], regress_ranges=((-1, 1e8),))
    model = build(backbone=backbone, neck=None, bbox_head=head)
    assert not model.with_neck
    assert model.with_bbox
    assert model(torch.rand(1, 3, 64, 64))[0][0].shape == (1, 3, 16, 16)


def test_without_a_preprocessor_images_are_padded_to_a_batch():
    model = build(data_preprocessor=None)
    batch = model.data_preprocessor(data())["inputs"]
    assert batch.shape == (2, 3, 120, 130)
    assert batch.max() > 200


def test_labels_are_held_against_the_classes_of_the_head():
    wrong = data()
    wrong["data_samples"][1].gt_instances.labels[2] = 3
    model = build()
    with pytest.raises(ValueError, match=r"image 1\.jpg \(img_id 1\) has the label 3, but bbox_head\.num_classes=3"):
        model.train_step(wrong, OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1)))


@pytest.mark.parametrize("size", [(64, 64), (97, 130), (128, 65), (33, 250)])
def test_images_of_any_size_fit(size):
    build().eval()(torch.rand(1, 3, *size))
    build("ATSS").eval()(torch.rand(1, 3, *size))


def test_the_fit_is_looked_at_once_per_size(monkeypatch):
    looked = []
    monkeypatch.setattr(single_stage, "check_fit", lambda size, *_: looked.append(size))
    model = build().eval()
    for size in ((64, 64), (64, 96), (64, 64)):
        model(torch.rand(1, 3, *size))
    assert looked == [(64, 64), (64, 96)]


@pytest.mark.parametrize(("rows", "fits"), [(11, True), (12, True), (13, True), (14, True), (7, False), (25, False)])
def test_backbones_that_round_otherwise_fit(rows, fits):
    head = RecordingHead()
    head.strides = [8]
    maps = [torch.rand(1, 2, rows, 12)]
    if fits:
        single_stage.check_fit((100, 96), maps, head, "backbone")
        return
    with pytest.raises(ValueError, match=rf"level 0 of the backbone has stride {16 if rows == 7 else 4}"):
        single_stage.check_fit((100, 96), maps, head, "backbone")


def fpn(**kwargs) -> dict:
    return {**config()["neck"], **kwargs}


def anchors(strides) -> dict:
    return {**ATSS_HEAD, "anchor_generator": {**ATSS_HEAD["anchor_generator"], "strides": strides}}


RANGES = ((-1, 1e8),)


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        (
            "FCOS",
            dict(neck=fpn(num_outs=5)),
            r"bbox_head\.strides has 4 entries, but the neck puts out 5 levels: make neck\.num_outs and",
        ),
        (
            "ATSS",
            dict(neck=fpn(num_outs=3)),
            r"bbox_head\.anchor_generator\.strides has 4 entries, but the neck puts out 3 levels",
        ),
        (
            "FCOS",
            dict(neck=fpn(start_level=0)),
            r"level 0 of the neck has stride 4 \(32 x 48 places for images of 128 x 192\), but "
            r"bbox_head\.strides\[0\] is 8: make them agree; neck\.start_level",
        ),
        (
            "ATSS",
            dict(bbox_head=anchors([8, 16, 32, 128])),
            r"level 3 of the neck has stride 64 .* but bbox_head\.anchor_generator\.strides\[3\] is 128",
        ),
        (
            "FCOS",
            dict(bbox_head=dict(FCOS_HEAD, strides=[(8, 8), (16, 16), (16, 32), (64, 64)])),
            r"level 2 of the neck has stride 32 .* but bbox_head\.strides\[2\] is 16",
        ),
        (
            "FCOS",
            dict(neck=fpn(out_channels=32)),
            r"bbox_head\.in_channels=16, but level 0 of the neck has 32 channels: make neck\.out_channels and",
        ),
        (
            "FCOS",
            dict(neck=None),
            r"bbox_head\.in_channels=16, but level 0 of the backbone has 8 channels: make the channels of the backbone",
        ),
        (
            "FCOS",
            dict(neck=None, bbox_head=dict(FCOS_HEAD, strides=[4], regress_ranges=RANGES)),
            r"bbox_head\.strides has 1 entries, but the backbone puts out 4 levels: make the number of",
        ),
        (
            "FCOS",
            dict(neck=fpn(in_channels=[8, 16, 32, 128])),
            r"neck\.in_channels=\[8, 16, 32, 128\], but the backbone puts out 4 maps with \[8, 16, 32, 64\] channels",
        ),
    ],
)
def test_parts_that_do_not_fit(kind, change, message):
    model = build(kind, **change)
    batch = model.data_preprocessor(data(), True)
    with pytest.raises(ValueError, match=message):
        model(**batch, mode="loss")


def test_a_head_is_needed():
    with pytest.raises(ValueError, match=r"FCOS needs a config of its head: model\.bbox_head=dict"):
        build(bbox_head=None)


def test_another_mode():
    with pytest.raises(ValueError, match=r"mode must be 'loss', 'predict' or 'tensor', but got 'train'"):
        build()(torch.rand(1, 3, 64, 64), mode="train")


def test_weights_of_the_whole_model(tmp_path):
    trained = build()
    torch.save({"state_dict": trained.state_dict()}, tmp_path / "model.pth")
    model = MODELS.build(config(init_cfg=dict(type="Pretrained", checkpoint=str(tmp_path / "model.pth"))))
    model.init_weights()
    torch.testing.assert_close(dict(model.state_dict()), dict(trained.state_dict()), rtol=0, atol=0)
    missing = MODELS.build(config(init_cfg=dict(type="Pretrained", checkpoint="no.pth")))
    with pytest.raises(FileNotFoundError, match=r"model\.init_cfg: there is no checkpoint file 'no\.pth'"):
        missing.init_weights()
