# FCOS, ResNeXt-101 (64x4d), short side 640 or 800, 24 epochs.
# Paper: https://arxiv.org/abs/1904.01355
# COCO val2017: box AP 42.6 (reference implementation). Cost: 24 epochs, 10 GB a GPU with 2 images; 103 ms an image on a V100.
# Command (8 GPUs): tools/dist_train.sh configs/fcos/fcos_x101-64x4d_fpn_gn-head_ms-640-800-2x_coco.py 8
_base_ = "./fcos_r50-caffe_fpn_gn-head_ms-640-800-2x_coco.py"

model = dict(
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_size_divisor=32,
    ),
    backbone=dict(
        type="ResNeXt",
        depth=101,
        groups=64,
        base_width=4,
        num_stages=4,
        out_indices=(0, 1, 2, 3),
        frozen_stages=1,
        norm_cfg=dict(type="BN", requires_grad=True),
        norm_eval=True,
        style="pytorch",
        init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://resnext101_64x4d"),
    ),
)
