"""mmdetection's own tools and runner train, test and draw detectors with densehead's heads."""

import json
import os
import pickle
import subprocess
import sys
import uuid
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner

from densehead.datasets.digits_scene import DigitsSpec, write_digits
from tests.engine.tiny import ROOT, no_default_scope_left, text_of_config_once  # noqa: F401

mmdet = pytest.importorskip("mmdet", reason="mmdetection is not installed")

pytestmark = pytest.mark.filterwarnings("ignore")

MIM = Path(mmdet.__file__).parent / ".mim"
CLASSES = tuple("0123456789")
STRIDES = [8, 16, 32, 64]
SQUARES = dict(type="AnchorGenerator", ratios=[1.0], octave_base_scale=4, scales_per_octave=1, strides=STRIDES)
DELTA = dict(type="DeltaXYWHBBoxCoder", target_stds=(0.1, 0.1, 0.2, 0.2))
FOCAL = dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0)
QUALITY_FOCAL = dict(type="QualityFocalLoss", use_sigmoid=True, beta=2.0, loss_weight=1.0)
ANCHORS = dict(anchor_generator=SQUARES, bbox_coder=DELTA, loss_cls=FOCAL, loss_bbox=dict(type="GIoULoss"))
RANGES = ((-1, 16), (16, 32), (32, 64), (64, 1e8))
ATSS_RULE = dict(assigner=dict(type="ATSSAssigner", topk=9), allowed_border=-1, pos_weight=-1)
MAX_IOU = dict(type="MaxIoUAssigner", pos_iou_thr=0.1, neg_iou_thr=0.1, min_pos_iou=0)
HEADS = {
    "FCOS": (dict(type="densehead.FCOSHead", strides=STRIDES, regress_ranges=RANGES), None),
    "ATSS": (dict(type="densehead.ATSSHead", **ANCHORS), ATSS_RULE),
    "GFL": (
        dict(type="densehead.GFLHead", **ANCHORS | dict(bbox_coder=dict(type="DistancePointBBoxCoder"))),
        ATSS_RULE,
    ),
    "VFNet": (
        dict(type="densehead.VFNetHead", strides=STRIDES, regress_ranges=RANGES, anchor_generator=SQUARES),
        ATSS_RULE,
    ),
    "PAA": (dict(type="densehead.PAAHead", **ANCHORS), dict(ATSS_RULE, assigner=MAX_IOU)),
    "AutoAssign": (dict(type="densehead.AutoAssignHead", strides=STRIDES, loss_bbox=dict(type="GIoULoss")), None),
    "SingleStageDetector": (dict(type="densehead.NanoDetPlusHead", strides=STRIDES, kernel_size=3), None),
}
HEADS["GFL"][0].update(loss_cls=QUALITY_FOCAL, bbox_coder=dict(type="DistancePointBBoxCoder"))


@pytest.fixture(scope="module")
def data_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("digits")
    write_digits(DigitsSpec(num_images=8, image_size=64, max_size=48), str(root))
    return root / DigitsSpec(num_images=8, image_size=64, max_size=48).folder


def loader(data_root, pipeline):
    dataset = dict(
        type="CocoDataset",
        data_root=f"{data_root}/",
        ann_file="annotations.json",
        data_prefix=dict(img="images/"),
        metainfo=dict(classes=CLASSES),
        pipeline=pipeline,
    )
    return dict(batch_size=4, num_workers=0, sampler=dict(type="DefaultSampler", shuffle=False), dataset=dataset)


def write_config(folder, data_root, detector, boxtype2tensor=True):
    """Write a config as an mmdetection user has it, with a head of densehead's."""
    head, train_cfg = HEADS[detector]
    load = [dict(type="LoadImageFromFile"), dict(type="LoadAnnotations", with_bbox=True)]
    test = [load[0], dict(type="Resize", scale=(96, 64), keep_ratio=True), load[1]]
    metas = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
    test.append(dict(type="PackDetInputs", meta_keys=metas))
    train = [*load, dict(type="Resize", scale=(96, 64)), dict(type="RandomFlip", prob=0.5), dict(type="PackDetInputs")]
    evaluator = dict(type="CocoMetric", ann_file=f"{data_root}/annotations.json", metric="bbox")
    cfg = dict(
        _base_=[str(MIM / "configs" / "_base_" / "default_runtime.py")],
        custom_imports=dict(imports=["densehead"], allow_failed_imports=False),
        experiment_name=uuid.uuid4().hex,
        model=dict(
            type=detector,
            data_preprocessor=dict(
                type="DetDataPreprocessor",
                mean=[103.5, 116.3, 123.7],
                std=[57.0, 57.0, 57.0],
                pad_size_divisor=32,
                boxtype2tensor=boxtype2tensor,
            ),
            backbone=dict(type="ResNet", depth=18, base_channels=8, norm_cfg=dict(type="BN")),
            neck=dict(type="FPN", in_channels=[8, 16, 32, 64], out_channels=16, start_level=1, num_outs=4),
            bbox_head=dict(
                num_classes=10,
                in_channels=16,
                feat_channels=16,
                stacked_convs=1,
                norm_cfg=dict(type="GN", num_groups=4),
                **head,
            ),
            train_cfg=train_cfg,
            test_cfg=dict(
                nms_pre=100, min_bbox_size=0, score_thr=0.0, nms=dict(type="nms", iou_threshold=0.6), max_per_img=10
            ),
        ),
        train_dataloader=loader(data_root, train),
        val_dataloader=loader(data_root, test),
        test_dataloader=loader(data_root, test),
        val_evaluator=evaluator,
        test_evaluator=evaluator,
        train_cfg=dict(type="EpochBasedTrainLoop", max_epochs=1),
        val_cfg=dict(type="ValLoop"),
        test_cfg=dict(type="TestLoop"),
        optim_wrapper=dict(type="OptimWrapper", optimizer=dict(type="SGD", lr=0.01, momentum=0.9)),
    )
    path = folder / "config.py"
    path.write_text("\n".join(f"{key} = {value!r}" for key, value in cfg.items()))
    return path


def run_tool(folder, name, *args):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(MIM / "tools" / f"{name}.py"), *map(str, args)]
    ran = subprocess.run(command, env=env, cwd=folder, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_train_test_and_draw(tmp_path, data_root):
    config = write_config(tmp_path, data_root, "GFL")
    run_tool(tmp_path, "train", config, "--work-dir", "work", "--cfg-options", "default_hooks.logger.interval=1")
    checkpoint = tmp_path / "work" / "epoch_1.pth"
    state = torch.load(checkpoint, weights_only=False)["state_dict"]
    assert "bbox_head.gfl_cls.weight" in state
    (log,) = tmp_path.glob("work/*/vis_data/2*.json")
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert {"loss", "loss_cls", "loss_bbox", "loss_dfl", "num_pos", "num_missed"} <= lines[0].keys()
    assert "coco/bbox_mAP" in lines[-1]

    said = run_tool(
        tmp_path, "test", config, checkpoint, "--work-dir", "test", "--show-dir", "drawn", "--out", "found.pkl"
    )
    assert "bbox_mAP_copypaste" in said
    assert len(list(tmp_path.glob("test/*/drawn/*.jpg"))) == 8
    found = pickle.loads((tmp_path / "found.pkl").read_bytes())
    assert len(found) == 8
    assert found[0]["pred_instances"]["bboxes"].shape == (10, 4)

    said = run_tool(tmp_path, "test", config, checkpoint, "--work-dir", "tta", "--tta")
    assert "bbox_mAP_copypaste" in said


@pytest.mark.parametrize("detector", HEADS)
@pytest.mark.parametrize("boxtype2tensor", [True, False])
def test_the_runner_takes_every_head(detector, boxtype2tensor, tmp_path, data_root):
    cfg = Config.fromfile(write_config(tmp_path, data_root, detector, boxtype2tensor=boxtype2tensor))
    cfg.work_dir = str(tmp_path / "work")
    runner = Runner.from_cfg(cfg)
    assert type(runner.model).__module__.startswith("mmdet.")
    assert type(runner.model.bbox_head).__module__.startswith("densehead.")
    assert type(runner.model.bbox_head.loss_cls).__module__.startswith("densehead.")
    runner.train()
    assert runner.message_hub.get_scalar("train/loss").current() > 0
    assert {"coco/bbox_mAP", "coco/bbox_mAP_50"} <= runner.test().keys()


OUR_PARTS = [
    dict(backbone=dict(type="densehead.ResNet", depth=18, base_channels=8, norm_cfg=dict(type="BN"))),
    dict(neck=dict(type="densehead.FPN", in_channels=[8, 16, 32, 64], out_channels=16, start_level=1, num_outs=4)),
    dict(type="densehead.GFL"),
    dict(data_preprocessor=dict(type="densehead.DetDataPreprocessor", pad_size_divisor=32)),
]


@pytest.mark.parametrize("parts", OUR_PARTS, ids=lambda parts: next(iter(parts)))
def test_the_runner_takes_other_parts(parts, tmp_path, data_root):
    cfg = Config.fromfile(write_config(tmp_path, data_root, "GFL"))
    for key, value in parts.items():
        cfg.model[key] = value
    cfg.work_dir = str(tmp_path / "work")
    runner = Runner.from_cfg(cfg)
    part = runner.model if "type" in parts else getattr(runner.model, next(iter(parts)))
    assert type(part).__module__.startswith("densehead.")
    runner.train()


def test_the_runner_takes_nanodet_plus_with_its_auxiliary_head(tmp_path, data_root):
    cfg = Config.fromfile(write_config(tmp_path, data_root, "SingleStageDetector"))
    cfg.model.update(type="densehead.NanoDetPlus", aux_head=dict(type="SimpleConvHead", stacked_convs=1))
    cfg.model.aux_head.update(feat_channels=16, norm_cfg=dict(type="GN", num_groups=4))
    cfg.work_dir = str(tmp_path / "work")
    runner = Runner.from_cfg(cfg)
    runner.train()
    assert runner.message_hub.get_scalar("train/aux_loss_cls").current() > 0


def test_inference_from_a_config_and_a_checkpoint(tmp_path, data_root):
    from mmdet.apis import inference_detector, init_detector

    config = write_config(tmp_path, data_root, "ATSS")
    model = init_detector(str(config), device="cpu")
    image = next(iter((data_root / "images").iterdir()))
    found = inference_detector(model, str(image)).pred_instances
    assert found.bboxes.shape == (10, 4)
    assert isinstance(found.bboxes, torch.Tensor)
