# NanoDet-Plus-m-1.5x, ShuffleNet V2 1.5x, 320 x 320: 2.5 million parameters.
# Code: https://github.com/RangiLyu/nanodet (config/nanodet-plus-m-1.5x_320.yml); losses of
# https://arxiv.org/abs/2006.04388
# COCO val2017: box AP 29.9 (official code). Cost: 300 epochs with 96 images on one GPU; 1.75 GFLOPs an image.
# Command: python tools/train.py configs/nanodet/nanodet-plus-m-1.5x_320_coco.py
_base_ = "./nanodet-plus-m_320_coco.py"

model = dict(
    backbone=dict(widen_factor=1.5, init_cfg=dict(type="Pretrained", checkpoint="torchvision://shufflenet_v2_x1_5")),
    neck=dict(in_channels=[176, 352, 704], out_channels=128),
    bbox_head=dict(in_channels=128, feat_channels=128),
    aux_head=dict(feat_channels=256),
)
