"""Small heads of every registered kind, and batches for them."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.structures import InstanceData

from densehead.models import DenseHead
from densehead.registry import MODELS
from densehead.structures import DetDataSample

STRIDES = [8, 16, 32]
SIZES = [(12, 16), (6, 8), (3, 4)]
SHAPE = (96, 128)
CLASSES = 5
TEST_CFG = dict(nms_pre=100, min_bbox_size=0, score_thr=0.05, nms=dict(type="nms", iou_threshold=0.6), max_per_img=20)
GN = dict(type="GN", num_groups=4)
FOCAL = dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25)
COMMON = dict(num_classes=CLASSES, in_channels=8, feat_channels=8, stacked_convs=1, norm_cfg=GN, test_cfg=TEST_CFG)
POINTS = dict(strides=STRIDES, loss_cls=FOCAL, loss_bbox=dict(type="GIoULoss"))
ANCHORS = dict(
    anchor_generator=dict(type="AnchorGenerator", ratios=[1.0], scales=[4.0], strides=STRIDES),
    bbox_coder=dict(type="DeltaXYWHBBoxCoder", target_stds=(0.1, 0.1, 0.2, 0.2)),
    loss_cls=FOCAL,
    loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
    train_cfg=dict(assigner=dict(type="ATSSAssigner", topk=9), allowed_border=-1, pos_weight=-1, debug=False),
)
RANGES = ((-1, 24), (24, 48), (48, 1e8))
CONFIGS = {
    "FCOSHead": dict(POINTS, type="FCOSHead", regress_ranges=RANGES),
    "FCOSHead-plus": dict(
        POINTS,
        type="FCOSHead",
        regress_ranges=RANGES,
        norm_on_bbox=True,
        centerness_on_reg=True,
        center_sampling=True,
        conv_bias=True,
    ),
    "ATSSHead": dict(ANCHORS, type="ATSSHead"),
    "ATSSHead-anchors": dict(
        ANCHORS,
        type="ATSSHead",
        anchor_generator=dict(type="AnchorGenerator", ratios=[0.5, 1.0], scales=[2.0, 4.0], strides=STRIDES),
    ),
    "GFLHead": dict(
        ANCHORS,
        type="GFLHead",
        bbox_coder=dict(type="DistancePointBBoxCoder"),
        loss_cls=dict(type="QualityFocalLoss", use_sigmoid=True, beta=2.0),
    ),
}
SQUARES = dict(type="AnchorGenerator", ratios=[1.0], octave_base_scale=4, scales_per_octave=1, strides=STRIDES)
STAR = dict(type="VFNetHead", strides=STRIDES, regress_ranges=RANGES, anchor_generator=SQUARES)
CONFIGS |= {"VFNetHead": STAR, "VFNetHead-fcos": dict(STAR, use_atss=False, center_sampling=True)}
# which of two objects gets a low-quality match depends on their order
CANDIDATES = dict(type="MaxIoUAssigner", pos_iou_thr=0.1, neg_iou_thr=0.1, match_low_quality=False)
PAA = dict(ANCHORS, type="PAAHead", train_cfg=dict(assigner=CANDIDATES, allowed_border=-1))
MANY_ANCHORS = dict(type="AnchorGenerator", ratios=[0.5, 1.0], scales=[2.0, 4.0], strides=STRIDES)
CONFIGS |= {
    "PAAHead": PAA,
    "PAAHead-anchors": dict(PAA, anchor_generator=MANY_ANCHORS, covariance_type="tied", gmm_scheme="paper"),
    "AutoAssignHead": dict(POINTS, type="AutoAssignHead"),
    "AutoAssignHead-topk": dict(POINTS, type="AutoAssignHead", force_topk=True, topk=4),
    "NanoDetPlusHead": dict(type="NanoDetPlusHead", strides=STRIDES, kernel_size=3),
}
ABSTRACT = {"AnchorFreeHead"}


has_half_on_cpu = hasattr(torch.amp, "GradScaler")  # before PyTorch 2.3: no float16 under autocast on a CPU, no scaler
needs_half_on_cpu = pytest.mark.skipif(not has_half_on_cpu, reason="float16 on a CPU needs PyTorch 2.3")
HALVES = [
    pytest.param(torch.bfloat16, id="bf16"),
    pytest.param(torch.float16, id="fp16", marks=needs_half_on_cpu),
]


def config(name: str, **changes) -> dict:
    return copy.deepcopy(COMMON | CONFIGS[name] | changes)


def build(name: str, **changes) -> DenseHead:
    torch.manual_seed(0)
    head = MODELS.build(config(name, **changes))
    head.init_weights()
    return head


def features(images: int = 2, seed: int = 0, requires_grad: bool = False) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(images, 8, *size, generator=generator).requires_grad_(requires_grad) for size in SIZES]


def samples(counts: list[int], seed: int = 0, **metas) -> list[DetDataSample]:
    generator = torch.Generator().manual_seed(seed)
    made = []
    for count in counts:
        centre = torch.rand(count, 2, generator=generator) * torch.tensor([SHAPE[1], SHAPE[0]])
        half = torch.exp(torch.rand(count, 2, generator=generator) * 3) + 2
        boxes = torch.cat([centre - half, centre + half], -1).clamp(min=0)
        boxes = boxes.minimum(torch.tensor([SHAPE[1], SHAPE[0]] * 2))
        sample = DetDataSample(metainfo=dict(img_shape=SHAPE, pad_shape=SHAPE, scale_factor=(1.0, 1.0)) | metas)
        labels = torch.randint(0, CLASSES, (count,), generator=generator)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=labels)
        made.append(sample)
    return made


def total(losses: dict[str, torch.Tensor]) -> torch.Tensor:
    return sum(value for name, value in losses.items() if "loss" in name)
