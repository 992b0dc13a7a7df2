# GFL, ResNet-101 with deformable convolution (version 1) in three stages, short side 480 to 800, 24 epochs.
# Paper: https://arxiv.org/abs/2006.04388
# COCO val2017: box AP 47.1 (reference implementation). Cost: 24 epochs with 2 images a GPU; 78 ms an image on an RTX 2080 Ti.
# Command (8 GPUs): tools/dist_train.sh configs/gfl/gfl_r101-dconv-c3-c5_fpn_ms-2x_coco.py 8
_base_ = "./gfl_r101_fpn_ms-2x_coco.py"

model = dict(
    backbone=dict(
        dcn=dict(type="DCN", deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, True, True, True),
    )
)
