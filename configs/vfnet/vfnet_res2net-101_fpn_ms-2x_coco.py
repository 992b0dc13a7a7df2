# VFNet, Res2Net-101 (v1d, 26w x 4s), short side 480 to 960, 24 epochs.
# Paper: https://arxiv.org/abs/2008.13367
# COCO val2017: box AP not published by the reference implementation. Cost: 24 epochs with 2 images a GPU.
# Command (8 GPUs): tools/dist_train.sh configs/vfnet/vfnet_res2net-101_fpn_ms-2x_coco.py 8
_base_ = "./vfnet_r50_fpn_ms-2x_coco.py"

model = dict(
    backbone=dict(
        type="Res2Net",
        depth=101,
        scales=4,
        base_width=26,
        init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://res2net101_v1d_26w_4s"),
    )
)
