# Improved FCOS, ResNet-50, large-scale jitter, mixed precision, 200 epochs.
# Paper: https://arxiv.org/abs/1904.01355
# COCO val2017: box AP not published. Cost: 200 epochs with 8 images a GPU.
# Command (8 GPUs): tools/dist_train.sh configs/fcos/fcos_r50_fpn_gn-head-center-normbbox-centeronreg-giou_8xb8-amp-lsj-200e_coco.py 8
_base_ = ["../_base_/models/r50_fpn.py", "../common/lsj-200e_coco-detection.py"]

image_size = (1024, 1024)
batch_augments = [dict(type="BatchFixedSizePad", size=image_size)]

model = dict(
    type="FCOS",
    data_preprocessor=dict(batch_augments=batch_augments),
    neck=dict(relu_before_extra_convs=True),
    bbox_head=dict(
        type="FCOSHead",
        num_classes=80,
        in_channels=256,
        stacked_convs=4,
        feat_channels=256,
        strides=[8, 16, 32, 64, 128],
        norm_on_bbox=True,
        centerness_on_reg=True,
        dcn_on_last_conv=False,
        center_sampling=True,
        conv_bias=True,
        loss_cls=dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0),
        loss_bbox=dict(type="GIoULoss", loss_weight=1.0),
        loss_centerness=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
    ),
)

train_dataloader = dict(batch_size=8, num_workers=4)
optim_wrapper = dict(
    type="AmpOptimWrapper",
    optimizer=dict(type="SGD", lr=0.01 * 4, momentum=0.9, weight_decay=0.00004),
    paramwise_cfg=dict(bias_lr_mult=2.0, bias_decay_mult=0.0),
    clip_grad=dict(max_norm=35, norm_type=2),
)
auto_scale_lr = dict(base_batch_size=64)  # 8 GPUs with 8 images each
