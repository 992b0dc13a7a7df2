# AutoAssign, ResNet-50 (caffe weights): no positives and negatives, but weights of both that are learned.
# Paper: AutoAssign: Differentiable Label Assignment for Dense Object Detection, https://arxiv.org/abs/2007.03496
# COCO val2017: box AP 40.4, 40.3 to 40.6 from run to run (reference implementation). Cost: 12 epochs, 4.1 GB a GPU with 2 images.
# Command (8 GPUs): tools/dist_train.sh configs/autoassign/autoassign_r50-caffe_fpn_1x_coco.py 8
_base_ = [
    "../_base_/models/r50-caffe_fpn.py",
    "../_base_/datasets/coco_detection.py",
    "../_base_/schedules/schedule_1x.py",
    "../_base_/default_runtime.py",
]

model = dict(
    type="AutoAssign",
    backbone=dict(init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://detectron2/resnet50_caffe")),
    neck=dict(
        add_extra_convs=True,  # P6 from C5
        init_cfg=dict(type="Caffe2Xavier", layer="Conv2d"),
    ),
    bbox_head=dict(
        type="AutoAssignHead",
        num_classes=80,
        in_channels=256,
        stacked_convs=4,
        feat_channels=256,
        strides=[8, 16, 32, 64, 128],
        loss_bbox=dict(type="GIoULoss", loss_weight=5.0),
    ),
    train_cfg=None,
)

param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=1000),
    dict(type="MultiStepLR", begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1),
]
optim_wrapper = dict(optimizer=dict(lr=0.01), paramwise_cfg=dict(norm_decay_mult=0.0))
