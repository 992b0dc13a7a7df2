# PAA, ResNet-50: positives are the anchors that a mixture of two Gaussians, fitted to an object's losses, calls good.
# Paper: Probabilistic Anchor Assignment with IoU Prediction for Object Detection, https://arxiv.org/abs/2007.08103
# COCO val2017: box AP 40.4 (reference implementation). Cost: 12 epochs, 3.7 GB a GPU with 2 images.
# Command (8 GPUs): tools/dist_train.sh configs/paa/paa_r50_fpn_1x_coco.py 8
_base_ = [
    "../_base_/models/r50_fpn.py",
    "../_base_/datasets/coco_detection.py",
    "../_base_/schedules/schedule_1x.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="PAA",
    bbox_head=dict(
        type="PAAHead",
        reg_decoded_bbox=True,
        score_voting=True,
        topk=9,
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
        bbox_coder=dict(type="DeltaXYWHBBoxCoder", target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[0.1, 0.1, 0.2, 0.2]),
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type="GIoULoss", loss_weight=1.3),
        loss_centerness=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=0.5),  # of the predicted IoU
    ),
    train_cfg=dict(
        # the candidates, from which the mixtures choose
        assigner=dict(type="MaxIoUAssigner", pos_iou_thr=0.1, neg_iou_thr=0.1, min_pos_iou=0, ignore_iof_thr=-1),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
)

optim_wrapper = dict(optimizer=dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=0.0001))
