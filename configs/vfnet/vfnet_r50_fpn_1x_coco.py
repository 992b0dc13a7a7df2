# VFNet, ResNet-50: IoU-aware scores, a star of nine points read at each box, boxes refined once.
# Paper: VarifocalNet: An IoU-aware Dense Object Detector, https://arxiv.org/abs/2008.13367
# COCO val2017: box AP 41.6 (reference implementation). Cost: 12 epochs with 2 images a GPU.
# Command (8 GPUs): tools/dist_train.sh configs/vfnet/vfnet_r50_fpn_1x_coco.py 8
_base_ = [
    "../_base_/models/r50_fpn.py",
    "../_base_/datasets/coco_detection.py",
    "../_base_/schedules/schedule_1x.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="VFNet",
    neck=dict(relu_before_extra_convs=True),
    bbox_head=dict(
        type="VFNetHead",
        num_classes=80,
        in_channels=256,
        stacked_convs=3,
        feat_channels=256,
        strides=[8, 16, 32, 64, 128],
        center_sampling=False,
        dcn_on_last_conv=False,
        use_atss=True,
        use_vfl=True,
        loss_cls=dict(
            type="VarifocalLoss", use_sigmoid=True, alpha=0.75, gamma=2.0, iou_weighted=True, loss_weight=1.0
        ),
        loss_bbox=dict(type="GIoULoss", loss_weight=1.5),
        loss_bbox_refine=dict(type="GIoULoss", loss_weight=2.0),
    ),
    train_cfg=dict(assigner=dict(type="ATSSAssigner", topk=9), allowed_border=-1, pos_weight=-1, debug=False),
)

param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1),
]
optim_wrapper = dict(
    optimizer=dict(lr=0.01),
    paramwise_cfg=dict(bias_lr_mult=2.0, bias_decay_mult=0.0),
    clip_grad=None,
)
