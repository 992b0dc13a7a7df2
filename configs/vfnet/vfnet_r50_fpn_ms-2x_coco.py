# VFNet, ResNet-50, short side 480 to 960, 24 epochs.
# Paper: https://arxiv.org/abs/2008.13367
# COCO val2017: box AP 44.5 (reference implementation). Cost: 24 epochs with 2 images a GPU.
# Command (8 GPUs): tools/dist_train.sh configs/vfnet/vfnet_r50_fpn_ms-2x_coco.py 8
_base_ = "./vfnet_r50_fpn_1x_coco.py"

train_pipeline = [
    dict(type="LoadImageFromFile", backend_args={{_base_.backend_args}}),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomResize", scale=[(1333, 480), (1333, 960)], keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

max_epochs = 24
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", begin=0, end=max_epochs, by_epoch=True, milestones=[16, 22], gamma=0.1),
]
