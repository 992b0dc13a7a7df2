# NanoDet-Plus-m, ShuffleNet V2 1.0x, 320 x 320: a detector of 1.2 million parameters for small devices.
# Code: https://github.com/RangiLyu/nanodet (config/nanodet-plus-m_320.yml); its losses are those of
# https://arxiv.org/abs/2006.04388, its backbone is that of https://arxiv.org/abs/1807.11164
# COCO val2017: box AP 27.0 (official code). Cost: 300 epochs with 96 images on one GPU; 0.9 GFLOPs an image.
# Command: python tools/train.py configs/nanodet/nanodet-plus-m_320_coco.py
_base_ = ["../_base_/datasets/coco_detection.py", "../_base_/default_runtime.py"]

act_cfg = dict(type="LeakyReLU", negative_slope=0.1)

model = dict(
    type="NanoDetPlus",
    detach_epoch=10,  # from here on the auxiliary parts no longer teach the others
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[103.53, 116.28, 123.675],
        std=[57.375, 57.12, 58.395],
        bgr_to_rgb=False,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type="ShuffleNetV2",
        widen_factor=1.0,
        out_indices=(0, 1, 2),
        act_cfg=act_cfg,
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://shufflenet_v2_x1_0"),
    ),
    neck=dict(
        type="GhostPAN",
        in_channels=[116, 232, 464],
        out_channels=96,
        kernel_size=5,
        num_extra_level=1,
        use_depthwise=True,
        act_cfg=act_cfg,
    ),
    # assigns by DynamicSoftLabelAssigner(topk=13) unless train_cfg.assigner says otherwise
    bbox_head=dict(
        type="NanoDetPlusHead",
        num_classes=80,
        in_channels=96,
        feat_channels=96,
        stacked_convs=2,
        kernel_size=5,
        strides=[8, 16, 32, 64],
        reg_max=7,
        norm_cfg=dict(type="BN"),
        act_cfg=act_cfg,
        loss_cls=dict(type="QualityFocalLoss", use_sigmoid=True, beta=2.0, loss_weight=1.0),
        loss_dfl=dict(type="DistributionFocalLoss", loss_weight=0.25),
        loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
    ),
    aux_head=dict(type="SimpleConvHead", feat_channels=192, stacked_convs=4, act_cfg=act_cfg),
    test_cfg=dict(
        nms_pre=-1, min_bbox_size=0, score_thr=0.05, nms=dict(type="nms", iou_threshold=0.6), max_per_img=100
    ),
)

train_pipeline = [
    dict(type="LoadImageFromFile", backend_args={{_base_.backend_args}}),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(
        type="RandomWarp",
        size=(320, 320),
        scale=(0.6, 1.4),
        stretch=((0.8, 1.2), (0.8, 1.2)),
        translate=0.2,
        flip=0.5,
    ),
    dict(type="RandomColorJitter", brightness=0.2, contrast=(0.6, 1.4), saturation=(0.5, 1.2)),
    dict(type="PackDetInputs"),
]
# For official checkpoints dict(type="RandomWarp", size=(320, 320), pixel_centers=False) in place of Resize: that lays
# images beside their boxes as they were trained with.
test_pipeline = [
    dict(type="LoadImageFromFile", backend_args={{_base_.backend_args}}),
    dict(type="Resize", scale=(320, 320), keep_ratio=False),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataloader = dict(
    _delete_=True,
    batch_size=96,
    num_workers=10,
    persistent_workers=True,
    drop_last=True,
    sampler=dict(type="DefaultSampler", shuffle=True),
    dataset=dict(
        type="CocoDataset",
        data_root="data/coco/",
        ann_file="annotations/instances_train2017.json",
        data_prefix=dict(img="train2017/"),
        pipeline=train_pipeline,  # no filter_cfg: images without an object count too
        backend_args={{_base_.backend_args}},
    ),
)
val_dataloader = dict(batch_size=96, num_workers=10, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

max_epochs = 300
train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=max_epochs, val_interval=10)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
param_scheduler = [
    dict(type="LinearLR", start_factor=0.0001, by_epoch=False, begin=0, end=500),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=max_epochs, T_max=max_epochs, eta_min=0.00005),
]
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=0.001, weight_decay=0.05),
    clip_grad=dict(max_norm=35, norm_type=2),
)
auto_scale_lr = dict(enable=False, base_batch_size=96)
# averages weights and the statistics of the norms; official: ExpMovingAverager with decay 0.9998
custom_hooks = [dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum=0.0002, update_buffers=True)]
env_cfg = dict(cudnn_benchmark=True)  # all images have one size
