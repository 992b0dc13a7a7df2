# VFNet on handwritten digits: a detector from scratch in a few minutes on a CPU, nothing to download.
# Paper: VarifocalNet: An IoU-aware Dense Object Detector, https://arxiv.org/abs/2008.13367
# ResNet-18 at half width, FPN of 64 channels; 3,000 images of 96 pixels, 6 epochs: those of every quick start.
# Expected: bbox_mAP_50 about 0.99. Cost: about 4 minutes on 2 cores, 1 GB of memory.
# Command: python tools/train.py configs/quickstart/vfnet_r18_digits.py
_base_ = "../_base_/digits.py"

model = dict(
    type="VFNet",
    bbox_head=dict(
        type="VFNetHead",
        num_classes=10,
        in_channels=64,
        stacked_convs=2,
        feat_channels=64,
        norm_cfg=dict(type="GN", num_groups=16),
        strides=[8, 16, 32],
        regress_ranges=((-1, 32), (32, 64), (64, 1e8)),
        center_sampling=False,
        dcn_on_last_conv=False,
        use_atss=True,
        anchor_generator=dict(
            type="AnchorGenerator",
            ratios=[1.0],
            octave_base_scale=4,
            scales_per_octave=1,
            center_offset=0.0,
            strides=[8, 16, 32],
        ),
        use_vfl=True,
        loss_cls=dict(
            type="VarifocalLoss", use_sigmoid=True, alpha=0.75, gamma=2.0, iou_weighted=True, loss_weight=1.0
        ),
        loss_bbox=dict(type="GIoULoss", loss_weight=1.5),
        loss_bbox_refine=dict(type="GIoULoss", loss_weight=2.0),
    ),
    train_cfg=dict(assigner=dict(type="ATSSAssigner", topk=9), allowed_border=-1, pos_weight=-1, debug=False),
)
