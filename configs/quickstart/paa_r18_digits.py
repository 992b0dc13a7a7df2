# PAA on handwritten digits: a detector from scratch in a few minutes on a CPU, nothing to download.
# Paper: Probabilistic Anchor Assignment with IoU Prediction for Object Detection, https://arxiv.org/abs/2007.08103
# ResNet-18 at half width, FPN of 64 channels; 3,000 images of 96 pixels, 6 epochs: those of every quick start.
# Expected: bbox_mAP_50 about 0.98. Cost: about 3 minutes on 2 cores, 1 GB of memory.
# Command: python tools/train.py configs/quickstart/paa_r18_digits.py
_base_ = "../_base_/digits.py"

model = dict(
    type="PAA",
    bbox_head=dict(
        type="PAAHead",
        reg_decoded_bbox=True,
        score_voting=True,
        topk=9,
        num_classes=10,
        in_channels=64,
        stacked_convs=2,
        feat_channels=64,
        norm_cfg=dict(type="GN", num_groups=16),
        anchor_generator=dict(
            type="AnchorGenerator", ratios=[1.0], octave_base_scale=4, scales_per_octave=1, strides=[8, 16, 32]
        ),
        bbox_coder=dict(type="DeltaXYWHBBoxCoder", target_means=(0.0, 0.0, 0.0, 0.0), target_stds=(0.1, 0.1, 0.2, 0.2)),
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type="GIoULoss", loss_weight=1.3),
        loss_centerness=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=0.5),
    ),
    train_cfg=dict(
        assigner=dict(type="MaxIoUAssigner", pos_iou_thr=0.1, neg_iou_thr=0.1, min_pos_iou=0, ignore_iof_thr=-1),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
)
