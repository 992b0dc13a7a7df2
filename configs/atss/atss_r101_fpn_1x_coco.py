# ATSS, ResNet-101.
# Paper: https://arxiv.org/abs/1912.02424
# COCO val2017: box AP 41.5 (reference implementation). Cost: 12 epochs, 5.6 GB a GPU with 2 images; 81 ms an image on a V100.
# Command (8 GPUs): tools/dist_train.sh configs/atss/atss_r101_fpn_1x_coco.py 8
_base_ = "./atss_r50_fpn_1x_coco.py"

model = dict(backbone=dict(depth=101, init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet101")))
