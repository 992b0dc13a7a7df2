# Improved FCOS with deformable convolution in three stages and in the head's last convolutions.
# Paper: https://arxiv.org/abs/1904.01355
# COCO val2017: box AP 42.3 (reference implementation). Cost: 12 epochs, 3.8 GB a GPU with 2 images.
# Command (8 GPUs): tools/dist_train.sh configs/fcos/fcos_r50-dcn-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco.py 8
_base_ = "./fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco.py"

model = dict(
    backbone=dict(
        dcn=dict(type="DCNv2", deform_groups=1, fallback_on_stride=False),
        stage_with_dcn=(False, True, True, True),
    ),
    bbox_head=dict(dcn_on_last_conv=True),
)
