# VFNet, ResNet-101, 24 epochs.
# Paper: https://arxiv.org/abs/2008.13367
# COCO val2017: box AP not published by the reference implementation. Cost: 24 epochs with 2 images a GPU.
# Command (8 GPUs): tools/dist_train.sh configs/vfnet/vfnet_r101_fpn_2x_coco.py 8
_base_ = "./vfnet_r101_fpn_1x_coco.py"

max_epochs = 24
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.1, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", begin=0, end=max_epochs, by_epoch=True, milestones=[16, 22], gamma=0.1),
]
