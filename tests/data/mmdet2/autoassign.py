# settings of the head inside the model, as the last of 2.x had them; a fixed rate after a warmup by epochs
_base_ = ["_base_/coco_detection.py", "_base_/schedule_1x.py", "_base_/default_runtime.py"]
model = dict(
    type="AutoAssign",
    backbone=dict(
        type="ResNet",
        depth=18,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type="BN", requires_grad=False),
        norm_eval=True,
        style="pytorch",
        init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet18"),
    ),
    neck=dict(
        type="FPN",
        in_channels=[64, 128, 256, 512],
        out_channels=64,
        start_level=1,
        add_extra_convs=True,
        extra_convs_on_inputs=True,
        num_outs=5,
        relu_before_extra_convs=True,
    ),
    bbox_head=dict(
        type="AutoAssignHead",
        norm_on_bbox=True,
        num_classes=80,
        in_channels=64,
        stacked_convs=1,
        feat_channels=64,
        strides=[8, 16, 32, 64, 128],
        loss_bbox=dict(type="GIoULoss", loss_weight=5.0),
    ),
    train_cfg=None,
    test_cfg=dict(
        nms_pre=1000, min_bbox_size=0, score_thr=0.05, nms=dict(type="nms", iou_threshold=0.6), max_per_img=100
    ),
)
optimizer = dict(lr=0.01, paramwise_cfg=dict(norm_decay_mult=0.0))
lr_config = dict(
    _delete_=True, policy="fixed", warmup="linear", warmup_iters=1, warmup_ratio=1.0 / 1000, warmup_by_epoch=True
)
total_epochs = 12
