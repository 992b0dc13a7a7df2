# VFNet, ResNeXt-101 (32x4d), modulated deformable convolution in three stages and in the head,
# short side 480 to 960, 24 epochs.
# Paper: https://arxiv.org/abs/2008.13367
# COCO val2017: box AP 49.7 (reference implementation). Cost: 24 epochs with 2 images a GPU.
# Command (8 GPUs): tools/dist_train.sh configs/vfnet/vfnet_x101-32x4d-mdconv-c3-c5_fpn_ms-2x_coco.py 8
_base_ = "./vfnet_r50-mdconv-c3-c5_fpn_ms-2x_coco.py"

model = dict(
    backbone=dict(
        type="ResNeXt",
        depth=101,
        groups=32,
        base_width=4,
        init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://resnext101_32x4d"),
    )
)
