# Improved FCOS, ResNet-101, large-scale jitter, mixed precision, 200 epochs.
# Paper: https://arxiv.org/abs/1904.01355
# COCO val2017: box AP not published. Cost: 200 epochs with 8 images a GPU.
# Command (8 GPUs): tools/dist_train.sh configs/fcos/fcos_r101_fpn_gn-head-center-normbbox-centeronreg-giou_8xb8-amp-lsj-200e_coco.py 8
_base_ = "./fcos_r50_fpn_gn-head-center-normbbox-centeronreg-giou_8xb8-amp-lsj-200e_coco.py"

model = dict(backbone=dict(depth=101, init_cfg=dict(type="Pretrained", checkpoint="torchvision://resnet101")))
