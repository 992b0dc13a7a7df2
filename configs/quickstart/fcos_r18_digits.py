# FCOS on handwritten digits: a detector from scratch in a few minutes on a CPU, nothing to download.
# Paper: FCOS: Fully Convolutional One-Stage Object Detection, https://arxiv.org/abs/1904.01355
# ResNet-18 at half width, FPN of 64 channels; 3,000 images of 96 pixels, 6 epochs.
# Expected: bbox_mAP_50 about 0.98. Cost: about 3 minutes on 2 cores, 1 GB of memory.
# Command: python tools/train.py configs/quickstart/fcos_r18_digits.py
_base_ = "../_base_/digits.py"

model = dict(
    type="FCOS",
    bbox_head=dict(
        type="FCOSHead",
        num_classes=10,
        in_channels=64,
        stacked_convs=2,
        feat_channels=64,
        strides=[8, 16, 32],
        regress_ranges=((-1, 32), (32, 64), (64, 1e8)),
        norm_cfg=dict(type="GN", num_groups=16),
        center_sampling=True,
        norm_on_bbox=True,
        centerness_on_reg=True,
        conv_bias=True,
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type="GIoULoss", loss_weight=1.0),
        loss_centerness=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
    ),
)
