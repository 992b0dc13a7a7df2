# PAA, ResNet-50, 18 epochs.
# Paper: https://arxiv.org/abs/2007.08103
# COCO val2017: box AP 41.4 (reference implementation). Cost: 18 epochs, 3.7 GB a GPU with 2 images.
# Command (8 GPUs): tools/dist_train.sh configs/paa/paa_r50_fpn_1.5x_coco.py 8
_base_ = "./paa_r50_fpn_1x_coco.py"

max_epochs = 18
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", begin=0, end=max_epochs, by_epoch=True, milestones=[12, 16], gamma=0.1),
]
