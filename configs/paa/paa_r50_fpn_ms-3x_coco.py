# PAA, ResNet-50, short side 640 to 800, 36 epochs.
# Paper: https://arxiv.org/abs/2007.08103
# COCO val2017: box AP 43.3 (reference implementation). Cost: 36 epochs, 3.7 GB a GPU with 2 images.
# Command (8 GPUs): tools/dist_train.sh configs/paa/paa_r50_fpn_ms-3x_coco.py 8
_base_ = "./paa_r50_fpn_1x_coco.py"

train_pipeline = [
    dict(type="LoadImageFromFile", backend_args={{_base_.backend_args}}),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomResize", scale=[(1333, 640), (1333, 800)], keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

max_epochs = 36
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", begin=0, end=max_epochs, by_epoch=True, milestones=[28, 34], gamma=0.1),
]
