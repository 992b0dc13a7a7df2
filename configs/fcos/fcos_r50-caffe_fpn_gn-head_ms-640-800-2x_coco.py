# FCOS, ResNet-50 (caffe weights), short side 640 or 800, 24 epochs.
# Paper: https://arxiv.org/abs/1904.01355
# COCO val2017: box AP 38.5 (reference implementation). Cost: 24 epochs, 2.6 GB a GPU with 2 images; 44 ms an image on a V100.
# Command (8 GPUs): tools/dist_train.sh configs/fcos/fcos_r50-caffe_fpn_gn-head_ms-640-800-2x_coco.py 8
_base_ = "./fcos_r50-caffe_fpn_gn-head_1x_coco.py"

train_pipeline = [
    dict(type="LoadImageFromFile", backend_args={{_base_.backend_args}}),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="RandomChoiceResize", scales=[(1333, 640), (1333, 800)], keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

max_epochs = 24
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type="ConstantLR", factor=1.0 / 3, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", begin=0, end=max_epochs, by_epoch=True, milestones=[16, 22], gamma=0.1),
]
