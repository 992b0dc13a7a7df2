# NanoDet-Plus-m-1.5x, ShuffleNet V2 1.5x, 416 x 416: 2.5 million parameters.
# Code: https://github.com/RangiLyu/nanodet (config/nanodet-plus-m-1.5x_416.yml); losses of
# https://arxiv.org/abs/2006.04388
# COCO val2017: box AP 34.1 (official code). Cost: 300 epochs with 96 images on one GPU; 2.97 GFLOPs an image.
# Command: python tools/train.py configs/nanodet/nanodet-plus-m-1.5x_416_coco.py
_base_ = "./nanodet-plus-m_416_coco.py"

model = dict(
    backbone=dict(widen_factor=1.5, init_cfg=dict(type="Pretrained", checkpoint="torchvision://shufflenet_v2_x1_5")),
    neck=dict(in_channels=[176, 352, 704], out_channels=128),
    bbox_head=dict(in_channels=128, feat_channels=128),
    aux_head=dict(feat_channels=256),
)
