"""What the zoo trains, it trains whole: DistributedDataParallel waits for a gradient of every parameter."""

from __future__ import annotations

import pytest
import torch
from mmengine.config import Config

from densehead.registry import MODELS
from tests.engine.tiny import ROOT
from tests.models.heads.heads import samples

SHAPE = (128, 160)
# one of each kind of backbone, neck and detector; those named slow take seconds, for their size
CONFIGS = [
    "quickstart/nanodet_plus_digits",
    *(
        pytest.param(name, marks=pytest.mark.slow)
        for name in (
            "nanodet/nanodet-plus-m_320_coco",
            "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco",
            "fcos/fcos_r50-dcn-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco",
            "atss/atss_r18_fpn_8xb8-amp-lsj-200e_coco",
            "gfl/gfl_x101-32x4d-dconv-c4-c5_fpn_ms-2x_coco",
            "vfnet/vfnet_res2net101-mdconv-c3-c5_fpn_ms-2x_coco",
            "paa/paa_r50_fpn_1x_coco",
            "autoassign/autoassign_r50-caffe_fpn_1x_coco",
        )
    ),
]


@pytest.mark.parametrize("name", CONFIGS)
def test_every_parameter_has_a_gradient(name):
    """With objects and without, and for NanoDet-Plus after its auxiliary head was detached too."""
    cfg = Config.fromfile(ROOT / "configs" / f"{name}.py").model
    cfg.backbone.pop("init_cfg", None)
    model = MODELS.build(cfg).train()
    for epoch, count in enumerate((2, 0, 0)):
        if hasattr(model, "detach_epoch"):
            model.detach_epoch = 2
            model.set_epoch(epoch)
        model.zero_grad(set_to_none=True)
        truth = samples([count, count])
        for sample in truth:
            sample.set_metainfo(dict(img_shape=SHAPE, pad_shape=SHAPE))
        losses = model(torch.randn(2, 3, *SHAPE), truth, mode="loss")
        model.parse_losses(losses)[0].backward()
        without = [key for key, value in model.named_parameters() if value.requires_grad and value.grad is None]
        assert not without
