# GFL, ResNeXt-101 (32x4d) with deformable convolution (version 1) in two stages, short side 480 to 800, 24 epochs.
# Paper: https://arxiv.org/abs/2006.04388
# COCO val2017: box AP 48.1 (reference implementation). Cost: 24 epochs with 2 images a GPU; 93 ms an image on an RTX 2080 Ti.
# Command (8 GPUs): tools/dist_train.sh configs/gfl/gfl_x101-32x4d-dconv-c4-c5_fpn_ms-2x_coco.py 8
_base_ = "./gfl_x101-32x4d_fpn_ms-2x_coco.py"

model = dict(
    backbone=dict(
        dcn=dict(type="DCN", deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, False, True, True),
    )
)
