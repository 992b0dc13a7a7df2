# GFL, ResNeXt-101 (32x4d), short side 480 to 800, 24 epochs.
# Paper: https://arxiv.org/abs/2006.04388
# COCO val2017: box AP 45.9 (reference implementation). Cost: 24 epochs with 2 images a GPU; 83 ms an image on an RTX 2080 Ti.
# Command (8 GPUs): tools/dist_train.sh configs/gfl/gfl_x101-32x4d_fpn_ms-2x_coco.py 8
_base_ = "./gfl_r50_fpn_ms-2x_coco.py"

model = dict(
    backbone=dict(
        type="ResNeXt",
        depth=101,
        groups=32,
        base_width=4,
        init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://resnext101_32x4d"),
    )
)
