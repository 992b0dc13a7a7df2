#!/usr/bin/env python
"""Compare whole detectors of densehead with mmdetection's: the same weights and images, hence the same numbers.

python tools/compare_mmdet.py                 # six heads, seven configs; prints a table in Markdown
python tools/compare_mmdet.py gfl paa         # some of them

It takes an environment with both: densehead, and mmdet 3.3 or onedl-mmdetection 3.5 with mmcv's compiled operators. The
configs are those that mmdet brings along, with a ResNet-18 whose weights are random; the images are drawn.
"""

from __future__ import annotations

import argparse
import copy
import itertools
import logging
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # a fresh clone need not be installed

try:
    import cv2
    import mmdet.models
    import torch
    from mmdet.registry import MODELS as MMDET_MODELS
    from mmdet.structures import DetDataSample
    from mmdet.structures.bbox import HorizontalBoxes
    from mmengine.config import Config, ConfigDict
    from mmengine.registry import DefaultScope
    from mmengine.structures import InstanceData
    from torch import Tensor, nn

    from densehead.datasets.digits_scene import DigitsSpec, Scenery
    from densehead.registry import MODELS
except ImportError as error:
    sys.exit(
        f"error: {error}\nThis compares densehead with mmdetection, so both must be installed (docs/mmdetection.md)"
    )

CONFIGS = {
    "fcos": "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
    "fcos-plus": "fcos/fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco.py",
    "atss": "atss/atss_r50_fpn_1x_coco.py",
    "gfl": "gfl/gfl_r50_fpn_1x_coco.py",
    "vfnet": "vfnet/vfnet_r50_fpn_1x_coco.py",
    "paa": "paa/paa_r50_fpn_1x_coco.py",
    "autoassign": "autoassign/autoassign_r50-caffe_fpn_1x_coco.py",
}
SIDE = 192  # of the drawn scenes, pixels
SIZES = ((192, 256), (160, 224), (224, 176), (192, 192))  # height and width that they are resized to: a ragged batch


def model_config(name: str) -> ConfigDict:
    """Return the model of one of mmdet's configs with a ResNet-18, ten classes and no pretrained weights."""
    cfg = Config.fromfile(Path(mmdet.__file__).parent / ".mim" / "configs" / CONFIGS[name]).model
    cfg.backbone.update(depth=18, init_cfg=None)
    cfg.neck.in_channels = [64, 128, 256, 512]
    cfg.bbox_head.num_classes = 10
    return cfg


def build(cfg: ConfigDict, *, ours: bool) -> nn.Module:
    """Build a detector of mmdetection's classes or, from the same config, of densehead's."""
    with DefaultScope.overwrite_default_scope("densehead" if ours else "mmdet"):
        return (MODELS if ours else MMDET_MODELS).build(copy.deepcopy(cfg))


def draw_weights(model: nn.Module, seed: int) -> None:
    """Initialise a model, and then so that it detects something: with larger weights and scores around 0.1."""
    torch.manual_seed(seed)
    model.init_weights()
    with torch.no_grad():
        for parameter in model.bbox_head.parameters():
            if parameter.ndim > 1:
                parameter += 0.02 * torch.randn_like(parameter)
            elif (parameter < -3).all():  # the bias of the classes
                parameter.fill_(-2.0)


def draw_batch(seed: int, count: int = len(SIZES)) -> dict:
    """Return a batch as mmdet's data loaders yield it: images, and samples with boxes of mmdet's class.

    Scenes of digits, each of another size; the last has no objects.
    """
    scenery = Scenery(DigitsSpec(num_images=count, image_size=SIDE, max_size=128, seed=seed))
    inputs, samples = [], []
    for index, (height, width) in zip(range(count), itertools.cycle(SIZES)):
        image, boxes, labels = scenery.draw(index)
        factor = (width / SIDE, height / SIDE)
        boxes, labels = torch.as_tensor(boxes).float() * torch.tensor(factor * 2), torch.as_tensor(labels).long()
        some = slice(0) if index == count - 1 else slice(None)
        meta = dict(img_id=index, ori_shape=(SIDE, SIDE), img_shape=(height, width), scale_factor=factor)
        sample = DetDataSample(metainfo=meta)
        sample.gt_instances = InstanceData(bboxes=HorizontalBoxes(boxes[some]), labels=labels[some])
        inputs.append(torch.from_numpy(cv2.resize(image, (width, height))).permute(2, 0, 1).contiguous())
        samples.append(sample)
    return dict(inputs=inputs, data_samples=samples)


def losses_of(model: nn.Module, batch: dict) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the losses of a batch, one scalar each, and the gradient of each parameter that has one."""
    model.train()
    model.zero_grad()
    found = model(**model.data_preprocessor(copy.deepcopy(batch), True), mode="loss")
    losses = {key: value if isinstance(value, Tensor) else sum(value) for key, value in found.items() if "loss" in key}
    sum(losses.values()).backward()
    grads = {key: one.grad.clone() for key, one in model.named_parameters() if one.grad is not None}
    return {key: value.detach() for key, value in losses.items()}, grads


@torch.no_grad()
def detections_of(model: nn.Module, batch: dict) -> list[Tensor]:
    """Return of each image (n, 6): class, score and box of the detections, in that order."""
    model.eval()
    found = model(**model.data_preprocessor(copy.deepcopy(batch), False), mode="predict")
    tables = []
    for sample in found:
        one = sample.pred_instances
        table = torch.cat([one.labels[:, None].to(one.scores), one.scores[:, None], one.bboxes], 1)
        order = sorted(range(len(table)), key=lambda row, table=table: (table[row, 0].item(), -table[row, 1].item()))
        tables.append(table[order])
    return tables


def compare(name: str, seed: int = 0) -> dict:
    """Compare one detector; the result has largest differences and counts by name.

    Raises:
        RuntimeError: the two have other parameters.
    """
    cfg = model_config(name)
    theirs, ours = build(cfg, ours=False), build(cfg, ours=True)
    draw_weights(theirs, seed)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    batch = draw_batch(seed)
    (expected, expected_grads), (found, found_grads) = losses_of(theirs, batch), losses_of(ours, batch)
    wanted, got = detections_of(theirs, batch), detections_of(ours, batch)
    rows = [(one, other) for one, other in zip(wanted, got, strict=True) if one.shape == other.shape]
    return dict(
        name=name,
        config=CONFIGS[name],
        losses={key: (value.item(), found[key].item()) for key, value in expected.items()},
        same_names=expected.keys() == found.keys() and expected_grads.keys() == found_grads.keys(),
        loss=max(((found[key] - value).abs() / value.abs().clamp(min=1e-8)).item() for key, value in expected.items()),
        gradient=max(_relative(found_grads[key], value) for key, value in expected_grads.items()),
        detections=(sum(map(len, wanted)), sum(map(len, got))),
        labels=all(torch.equal(one[:, 0], other[:, 0]) for one, other in rows) and len(rows) == len(wanted),
        score=_largest(rows, slice(1, 2)),
        box=_largest(rows, slice(2, 6)),
    )


def _relative(value: Tensor, expected: Tensor) -> float:
    """Largest difference of gradients, relative to the largest entry."""
    return ((value - expected).abs().max() / expected.abs().max().clamp(min=1e-8)).item()


def _largest(rows: list[tuple[Tensor, Tensor]], columns: slice) -> float:
    parts = [(one[:, columns] - other[:, columns]).abs().flatten() for one, other in rows]
    return torch.cat([torch.zeros(1), *parts]).max().item()


HEAD = (
    "| config of mmdetection (with ResNet-18) | losses: mmdetection / densehead | loss | gradient | detections | score "
    "| box, pixels |\n|---|---|---|---|---|---|---|"
)


def row(found: dict) -> str:
    """Return a comparison as a row of a table in Markdown."""
    losses = ", ".join(f"`{key}` {a:.5f} / {b:.5f}" for key, (a, b) in found["losses"].items())
    count = "{} / {}".format(*found["detections"]) + ("" if found["labels"] else ", others")
    differences = " | ".join(f"{found[key]:.0e}" for key in ("loss", "gradient"))
    return (
        f"| `{Path(found['config']).stem}` | {losses} | {differences} | {count} | {found['score']:.0e} "
        f"| {found['box']:.0e} |"
    )


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compare densehead's detectors with mmdetection's, on the CPU.")
    parser.add_argument("names", nargs="*", default=[], help=f"some of {', '.join(CONFIGS)}; all if none")
    parser.add_argument("--seed", type=int, default=0, help="of weights and images")
    args = parser.parse_args()
    unknown = set(args.names) - set(CONFIGS)
    if unknown:
        parser.error(f"{', '.join(sorted(unknown))}: not one of {', '.join(CONFIGS)}")
    return args


def main() -> int:
    args = parse_args()
    warnings.filterwarnings("ignore")  # mmdet's, of what is deprecated
    logging.disable(logging.INFO)  # how each weight was initialised
    results = []
    print(HEAD)
    for name in args.names or CONFIGS:
        results.append(compare(name, args.seed))
        print(row(results[-1]), flush=True)
    print(
        "\nLargest relative difference of a loss, of a gradient (to the largest entry of its parameter), and largest "
        "difference of a detection's score and box."
    )
    return 0 if all(one["labels"] and one["same_names"] and one["loss"] < 1e-3 for one in results) else 1


if __name__ == "__main__":
    sys.exit(main())
