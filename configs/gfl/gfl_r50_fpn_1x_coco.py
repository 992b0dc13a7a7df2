# GFL, ResNet-50: scores that are the boxes' IoU, and each side of a box as a distribution over 17 distances.
# Paper: Generalized Focal Loss: Learning Qualified and Distributed Bounding Boxes for Dense Object Detection,
# https://arxiv.org/abs/2006.04388
# COCO val2017: box AP 40.2 (reference implementation). Cost: 12 epochs with 2 images a GPU; 51 ms an image on an RTX 2080 Ti.
# Command (8 GPUs): tools/dist_train.sh configs/gfl/gfl_r50_fpn_1x_coco.py 8
_base_ = [
    "../_base_/models/r50_fpn.py",
    "../_base_/datasets/coco_detection.py",
    "../_base_/schedules/schedule_1x.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="GFL",
    bbox_head=dict(
        type="GFLHead",
        num_classes=80,
        in_channels=256,
        stacked_convs=4,
        feat_channels=256,
        anchor_generator=dict(
            type="AnchorGenerator",
            ratios=[1.0],
            octave_base_scale=8,
            scales_per_octave=1,
            strides=[8, 16, 32, 64, 128],
        ),
        loss_cls=dict(type="QualityFocalLoss", use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_dfl=dict(type="DistributionFocalLoss", loss_weight=0.25),
        reg_max=16,  # the largest distance, in strides
        loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
    ),
    train_cfg=dict(assigner=dict(type="ATSSAssigner", topk=9), allowed_border=-1, pos_weight=-1, debug=False),
)

optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=0.0001))
