# NanoDet-Plus on handwritten digits: a detector from scratch in a few minutes on a CPU, nothing to download.
# Code: NanoDet-Plus, https://github.com/RangiLyu/nanodet; its losses are those of https://arxiv.org/abs/2006.04388
# ShuffleNet V2 1.0x, ghost PAN of 64 channels; data and schedule of every quick start: 3,000 images, 6 epochs.
# Expected: bbox_mAP_50 about 0.84. Cost: about 5 minutes on 2 cores, 1 GB of memory.
# Command: python tools/train.py configs/quickstart/nanodet_plus_digits.py
_base_ = "../_base_/digits.py"

act_cfg = dict(type="LeakyReLU", negative_slope=0.1)

model = dict(
    type="NanoDetPlus",
    detach_epoch=2,
    backbone=dict(_delete_=True, type="ShuffleNetV2", widen_factor=1.0, out_indices=(0, 1, 2), act_cfg=act_cfg),
    neck=dict(
        _delete_=True,
        type="GhostPAN",
        in_channels=[116, 232, 464],
        out_channels=64,
        kernel_size=5,
        num_extra_level=0,
        use_depthwise=True,
        act_cfg=act_cfg,
    ),
    bbox_head=dict(
        type="NanoDetPlusHead",
        num_classes=10,
        in_channels=64,
        feat_channels=64,
        stacked_convs=2,
        kernel_size=5,
        strides=[8, 16, 32],
        reg_max=7,
        act_cfg=act_cfg,
        loss_cls=dict(type="QualityFocalLoss", use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_dfl=dict(type="DistributionFocalLoss", loss_weight=0.25),
        loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
    ),
    aux_head=dict(
        type="SimpleConvHead",
        feat_channels=64,
        stacked_convs=2,
        norm_cfg=dict(type="GN", num_groups=16),
        act_cfg=act_cfg,
    ),
)
