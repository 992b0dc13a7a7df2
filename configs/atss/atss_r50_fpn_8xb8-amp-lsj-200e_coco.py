# ATSS, ResNet-50, large-scale jitter, mixed precision, 200 epochs.
# Paper: https://arxiv.org/abs/1912.02424
# COCO val2017: box AP not published. Cost: 200 epochs with 8 images a GPU.
# Command (8 GPUs): tools/dist_train.sh configs/atss/atss_r50_fpn_8xb8-amp-lsj-200e_coco.py 8
_base_ = ["../_base_/models/r50_fpn.py", "../common/lsj-200e_coco-detection.py"]

image_size = (1024, 1024)
batch_augments = [dict(type="BatchFixedSizePad", size=image_size)]

model = dict(
    type="ATSS",
    data_preprocessor=dict(batch_augments=batch_augments),
    bbox_head=dict(
        type="ATSSHead",
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
        loss_bbox=dict(type="GIoULoss", loss_weight=2.0),
        loss_centerness=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
    ),
    train_cfg=dict(assigner=dict(type="ATSSAssigner", topk=9), allowed_border=-1, pos_weight=-1, debug=False),
)

train_dataloader = dict(batch_size=8, num_workers=4)
optim_wrapper = dict(
    type="AmpOptimWrapper", optimizer=dict(type="SGD", lr=0.01 * 4, momentum=0.9, weight_decay=0.00004)
)
auto_scale_lr = dict(base_batch_size=64)  # 8 GPUs with 8 images each
