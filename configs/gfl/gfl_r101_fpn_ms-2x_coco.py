# GFL, ResNet-101, short side 480 to 800, 24 epochs.
# Paper: https://arxiv.org/abs/2006.04388
# COCO val2017: box AP 44.7 (reference implementation). Cost: 24 epochs with 2 images a GPU; 68 ms an image on an RTX 2080 Ti.
# Command (8 GPUs): tools/dist_train.sh configs/gfl/gfl_r101_fpn_ms-2x_coco.py 8
_base_ = "./gfl_r50_fpn_ms-2x_coco.py"

model = dict(backbone=dict(depth=101, init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet101")))
