# a text file of class names would do as well; restarts of a cosine; something of everything that has no counterpart
_base_ = ["_base_/coco_detection.py", "_base_/default_runtime.py"]
model = dict(
    type="PAA",
    pretrained="torchvision://resnet18",
    backbone=dict(
        type="ResNet",
        depth=18,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=True,
        style="pytorch",
    ),
    neck=dict(
        type="FPN",
        in_channels=[64, 128, 256, 512],
        out_channels=64,
        start_level=1,
        add_extra_convs="on_output",
        num_outs=5,
    ),
    bbox_head=dict(
        type="PAAHead",
        reg_decoded_bbox=True,
        score_voting=True,
        topk=9,
        num_classes=80,
        in_channels=64,
        stacked_convs=1,
        feat_channels=64,
        background_label=80,
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
        loss_centerness=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=0.5),
    ),
    train_cfg=dict(
        assigner=dict(type="MaxIoUAssigner", pos_iou_thr=0.1, neg_iou_thr=0.1, min_pos_iou=0, ignore_iof_thr=-1),
        allowed_border=-1,
        pos_weight=-1,
        debug=False,
    ),
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type="nms", iou_threshold=0.6), max_per_img=100
    ),
)
data = dict(
    shuffle_seed=4,
    train=dict(classes="nowhere/classes.txt", proposal_file="proposals.pkl"),
    test=dict(
        pipeline=[
            dict(type="LoadImageFromFile"),
            dict(
                type="MultiScaleFlipAug",
                img_scale=(1333, 800),
                flip=False,
                transforms=[
                    dict(type="Resize", keep_ratio=True),
                    dict(type="Normalize", mean=[0, 0, 0], std=[255.0, 255.0, 255.0], to_rgb=True),
                    dict(type="Pad", size_divisor=64, pad_val=dict(img=1, masks=0)),
                    dict(type="ImageToTensor", keys=["img"]),
                    dict(type="Collect", keys=["img"]),
                ],
            ),
        ]
    ),
)
optimizer = dict(type="SGD", lr=0.01, momentum=0.9, weight_decay=0.0001)
optimizer_config = dict(grad_clip=None, unknown_switch=True)
lr_config = dict(policy="CosineRestart", periods=[6, 6], min_lr=0.0, restart_weights=[1, 0.5], min_momentum=1)
momentum_config = dict(policy="cyclic")
total_epochs = 12
evaluation = dict(interval=1, metric=["bbox", "segm"], start=3)
log_config = dict(hooks=[dict(type="TextLoggerHook"), dict(type="PaviLoggerHook")])
custom_hooks = [dict(type="SyncNormHook", num_last_epochs=15), dict(type="EMAHook", warm_up=100, momentum=0.001)]
