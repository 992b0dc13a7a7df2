# VFNet, ResNet-101.
# Paper: https://arxiv.org/abs/2008.13367
# COCO val2017: box AP 43.0 (reference implementation). Cost: 12 epochs with 2 images a GPU.
# Command (8 GPUs): tools/dist_train.sh configs/vfnet/vfnet_r101_fpn_1x_coco.py 8
_base_ = "./vfnet_r50_fpn_1x_coco.py"

model = dict(backbone=dict(depth=101, init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet101")))
