# no bases; classes of one's own, iterations instead of epochs, two data sets in a list, TensorBoard
classes = ("cell", "platelet")
model = dict(
    type="VFNet",
    backbone=dict(
        type="ResNet",
        depth=18,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=True,
        style="pytorch",
        pretrained="torchvision://resnet18",
    ),
    neck=dict(
        type="FPN",
        in_channels=[64, 128, 256, 512],
        out_channels=64,
        start_level=1,
        add_extra_convs="on_output",
        num_outs=5,
        relu_before_extra_convs=True,
    ),
    bbox_head=dict(
        type="VFNetHead",
        num_classes=2,
        in_channels=64,
        stacked_convs=1,
        feat_channels=64,
        strides=[8, 16, 32, 64, 128],
        center_sampling=False,
        use_atss=True,
        use_vfl=True,
        loss_cls=dict(
            type="VarifocalLoss", use_sigmoid=True, alpha=0.75, gamma=2.0, iou_weighted=True, loss_weight=1.0
        ),
        loss_bbox=dict(type="GIoULoss", loss_weight=1.5),
        loss_bbox_refine=dict(type="GIoULoss", loss_weight=2.0),
    ),
    train_cfg=dict(assigner=dict(type="ATSSAssigner", topk=9), allowed_border=-1, pos_weight=-1, debug=False),
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type="nms", iou_threshold=0.6), max_per_img=100
    ),
)
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PhotoMetricDistortion"),
    dict(
        type="AutoAugment",
        policies=[
            [dict(type="Resize", img_scale=[(320, 320), (256, 256)], multiscale_mode="value", keep_ratio=True)],
            [
                dict(type="Resize", img_scale=(400, 400), keep_ratio=True),
                dict(type="RandomCrop", crop_type="absolute_range", crop_size=(256, 320)),
            ],
        ],
    ),
    dict(type="RandomFlip", flip_ratio=0.5),
    dict(type="Normalize", **img_norm_cfg),
    dict(type="Pad", size_divisor=32),
    dict(type="DefaultFormatBundle"),
    dict(type="Collect", keys=["img", "gt_bboxes", "gt_labels"]),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="MultiScaleFlipAug",
        img_scale=(320, 320),
        flip=False,
        transforms=[
            dict(type="Resize", keep_ratio=True),
            dict(type="Normalize", **img_norm_cfg),
            dict(type="Pad", size_divisor=32),
            dict(type="ImageToTensor", keys=["img"]),
            dict(type="Collect", keys=["img"]),
        ],
    ),
]
part = dict(type="CocoDataset", classes=classes, data_root="data/cells", img_prefix="images", pipeline=train_pipeline)
data = dict(
    samples_per_gpu=2,
    workers_per_gpu=2,
    persistent_workers=True,
    train=[dict(ann_file="first.json", **part), dict(ann_file="second.json", **part)],
    val=dict(
        type="CocoDataset",
        classes=classes,
        data_root="data/cells",
        ann_file="val.json",
        img_prefix="images",
        pipeline=test_pipeline,
    ),
)
data["test"] = data["val"]
optimizer = dict(type="AdamW", lr=0.0001, weight_decay=0.05, constructor="DefaultOptimizerConstructor")
optimizer_config = dict(type="GradientCumulativeOptimizerHook", cumulative_iters=4)
lr_config = dict(policy="poly", power=0.9, min_lr=1e-6, by_epoch=False, warmup="exp", warmup_iters=10, warmup_ratio=0.1)
momentum_config = None
runner = dict(type="IterBasedRunner", max_iters=1000)
checkpoint_config = dict(by_epoch=False, interval=100)
evaluation = dict(interval=100, metric=["bbox"], iou_thrs=[0.5], start=200)
log_config = dict(interval=20, hooks=[dict(type="TextLoggerHook", by_epoch=False), dict(type="TensorboardLoggerHook")])
seed = 3
deterministic = True
cudnn_benchmark = True
find_unused_parameters = True
gpu_ids = range(1)
resume_from = "work_dirs/vfnet/latest.pth"
workflow = [("train", 1), ("val", 1)]
log_level = "INFO"
load_from = None
