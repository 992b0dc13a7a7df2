# PAA, ResNet-101.
# Paper: https://arxiv.org/abs/2007.08103
# COCO val2017: box AP 42.6 (reference implementation). Cost: 12 epochs, 6.2 GB a GPU with 2 images.
# Command (8 GPUs): tools/dist_train.sh configs/paa/paa_r101_fpn_1x_coco.py 8
_base_ = "./paa_r50_fpn_1x_coco.py"

model = dict(backbone=dict(depth=101, init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet101")))
