"""Read the golden cases of NanoDet-Plus, whose arrays and config keys are the official implementation's."""

from __future__ import annotations

import zlib

import numpy as np
import torch
from mmengine.structures import InstanceData

from densehead.registry import MODELS

LEAKY_RELU = dict(type="LeakyReLU", negative_slope=0.1)
TEST_CFG = dict(score_thr=0.05, nms=dict(type="nms", iou_threshold=0.6), max_per_img=100)
LOSSES = dict(loss_qfl="loss_cls", loss_bbox="loss_bbox", loss_dfl="loss_dfl")


def head_config(cfg: dict) -> dict:
    """Return the config of our head with the settings of an official one."""
    same = ("num_classes", "feat_channels", "stacked_convs", "strides", "reg_max", "norm_cfg")
    ours = {key: cfg[key] for key in same} | dict(type=cfg["name"], in_channels=cfg["input_channel"])
    assert cfg["activation"] == "LeakyReLU"
    ours["act_cfg"] = LEAKY_RELU
    if cfg["name"] == "SimpleConvHead":
        return ours
    losses = {
        LOSSES[key]: {"type" if name == "name" else name: value for name, value in loss.items()}
        for key, loss in cfg["loss"].items()
    }
    return ours | losses | dict(kernel_size=cfg["kernel_size"], conv_type=cfg["conv_type"], test_cfg=TEST_CFG)


def build_head(cfg: dict, arrays: dict[str, torch.Tensor], prefix: str):
    head = MODELS.build(head_config(cfg)).eval()
    state = {key.removeprefix(prefix): value for key, value in arrays.items() if key.startswith(prefix)}
    head.load_state_dict(state, strict=True)
    return head


def levels(arrays, prefix: str) -> list[torch.Tensor]:
    count = sum(name.startswith(f"{prefix}/") for name in arrays)
    return [arrays[f"{prefix}/{level}"].clone() for level in range(count)]


def official_form(maps) -> torch.Tensor:
    """Return (B, P, C + 4 * (reg_max + 1)) of level maps of scores and box logits."""
    return torch.cat([torch.cat(pair, 1).flatten(2) for pair in zip(*maps)], 2).transpose(1, 2)


def truth(meta, arrays) -> tuple[list[InstanceData], list[dict]]:
    images = range(meta["images"])
    instances = [InstanceData(bboxes=arrays[f"gt/{i}/bboxes"], labels=arrays[f"gt/{i}/labels"]) for i in images]
    shape = tuple(meta["image_size"])
    return instances, [dict(img_shape=shape, pad_shape=shape, scale_factor=(1.0, 1.0)) for _ in images]


def our_name(key: str) -> str:
    """Return the name of a loss of the official implementation here."""
    prefix = "aux_" if key.startswith("aux_") else ""
    return prefix + LOSSES[key.removeprefix("aux_")]


def detector_config(out_channels: int = 16, feat_channels: int = 16, aux_channels: int = 32, **changes) -> dict:
    """Return the config of the detector of the golden case ``nanodet_plus_detector``."""
    return (
        dict(
            type="NanoDetPlus",
            backbone=dict(type="ShuffleNetV2", widen_factor=0.5, act_cfg=LEAKY_RELU),
            neck=dict(
                type="GhostPAN",
                in_channels=[48, 96, 192],
                out_channels=out_channels,
                use_depthwise=True,
                num_extra_level=1,
            ),
            bbox_head=dict(
                type="NanoDetPlusHead",
                num_classes=5,
                in_channels=out_channels,
                feat_channels=feat_channels,
                test_cfg=TEST_CFG,
            ),
            aux_head=dict(type="SimpleConvHead", feat_channels=aux_channels, stacked_convs=2),
            detach_epoch=2,
        )
        | changes
    )


def formula(shapes: dict[str, list[int]]) -> dict[str, torch.Tensor]:
    """Return the weights of the golden detector: waves, whose phase is a checksum of the official name."""
    weights = {}
    for name, shape in shapes.items():
        if name.endswith("num_batches_tracked"):
            weights[name] = torch.zeros((), dtype=torch.long)
            continue
        if name.endswith("project"):
            weights[name] = torch.arange(shape[0], dtype=torch.float32)
            continue
        phase = zlib.crc32(name.encode()) % 1000
        wave = np.sin(0.7 * np.arange(np.prod(shape, dtype=int)) * (1 + phase / 1000) + phase)
        if len(shape) == 4:
            wave = wave * np.sqrt(3.0 / np.prod(shape[1:]))
        elif name.endswith(("running_var", "weight", "scale")):
            wave = 1 + 0.3 * wave
        else:
            wave = 0.1 * wave
        weights[name] = torch.from_numpy(wave.reshape(shape)).float()
    return weights


def formula_image(height: int, width: int) -> torch.Tensor:
    """Return (2, 3, height, width), the images of the golden detector."""
    index = np.arange(2 * 3 * height * width)
    values = np.sin(0.013 * index) + np.cos(0.0071 * index * (1 + index % 3))
    return torch.from_numpy(values.reshape(2, 3, height, width)).float()
