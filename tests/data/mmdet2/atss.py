# mixed precision, large-scale jitter, a cosine, the mean of the weights, Weights & Biases
_base_ = ["_base_/coco_detection.py", "_base_/schedule_1x.py", "_base_/default_runtime.py"]
model = dict(
    type="ATSS",
    backbone=dict(
        type="ResNet",
        depth=18,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=True,
        style="pytorch",
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet18"),
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
        type="ATSSHead",
        num_classes=80,
        in_channels=64,
        stacked_convs=1,
        feat_channels=64,
        anchor_generator=dict(
            type="AnchorGenerator",
            ratios=[1.0],
            octave_base_scale=8,
            scales_per_octave=1,
            strides=[8, 16, 32, 64, 128],
        ),
        bbox_coder=dict(type="DeltaXYWHBBoxCoder", target_means=[0.0, 0.0, 0.0, 0.0], target_stds=[0.1, 0.1, 0.2, 0.2]),
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
        loss_centerness=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
    ),
    train_cfg=dict(assigner=dict(type="ATSSAssigner", topk=9), allowed_border=-1, pos_weight=-1, debug=False),
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type="nms", iou_threshold=0.6), max_per_img=100
    ),
)
file_client_args = dict(backend="disk")
train_pipeline = [
    dict(type="LoadImageFromFile", file_client_args=file_client_args),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", img_scale=(640, 640), ratio_range=(0.1, 2.0), multiscale_mode="range", keep_ratio=True),
    dict(type="RandomCrop", crop_type="absolute", crop_size=(480, 640), recompute_bbox=True, allow_negative_crop=True),
    dict(type="RandomFlip", flip_ratio=0.5),
    dict(type="Normalize", mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True),
    dict(type="Pad", size=(480, 640)),
    dict(type="DefaultFormatBundle"),
    dict(type="Collect", keys=["img", "gt_bboxes", "gt_labels"]),
]
data = dict(
    train_dataloader=dict(samples_per_gpu=8, persistent_workers=False),
    val_dataloader=dict(samples_per_gpu=4, workers_per_gpu=1),
    train=dict(
        _delete_=True,
        type="RepeatDataset",
        times=4,
        dataset=dict(
            type="CocoDataset",
            ann_file="data/coco/annotations/instances_train2017.json",
            img_prefix="data/coco/train2017/",
            filter_empty_gt=False,
            pipeline=train_pipeline,
        ),
    ),
)
fp16 = dict(loss_scale=dict(init_scale=512))
lr_config = dict(_delete_=True, policy="CosineAnnealing", by_epoch=False, min_lr_ratio=0.01)
evaluation = dict(interval=5, metric="bbox", save_best="bbox_mAP", classwise=True, dynamic_intervals=[(10, 1)])
checkpoint_config = dict(interval=5, max_keep_ckpts=2, create_symlink=False)
custom_hooks = [
    dict(type="NumClassCheckHook"),
    dict(type="ExpMomentumEMAHook", resume_from=None, momentum=0.0001, total_iter=2000, priority=49),
]
log_config = dict(hooks=[dict(type="TextLoggerHook"), dict(type="WandbLoggerHook", init_kwargs=dict(project="heads"))])
