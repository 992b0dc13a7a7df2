# FCOS with the paper's later improvements: centre sampling, distances in strides, centre-ness beside the boxes, GIoU.
# Paper: https://arxiv.org/abs/1904.01355
# COCO val2017: box AP 38.7 (reference implementation). Cost: 12 epochs, 3.7 GB a GPU with 2 images.
# Command (8 GPUs): tools/dist_train.sh configs/fcos/fcos_r50-caffe_fpn_gn-head-center-normbbox-centeronreg-giou_1x_coco.py 8
_base_ = "./fcos_r50-caffe_fpn_gn-head_1x_coco.py"

model = dict(
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        mean=[103.530, 116.280, 123.675],
        std=[1.0, 1.0, 1.0],
        bgr_to_rgb=False,
        pad_size_divisor=32,
    ),
    backbone=dict(init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://detectron2/resnet50_caffe")),
    bbox_head=dict(
        norm_on_bbox=True,
        centerness_on_reg=True,
        dcn_on_last_conv=False,
        center_sampling=True,
        conv_bias=True,
        loss_bbox=dict(type="GIoULoss", loss_weight=1.0),
    ),
    test_cfg=dict(nms=dict(type="nms", iou_threshold=0.6)),
)

param_scheduler = [
    dict(type="LinearLR", start_factor=1.0 / 3.0, by_epoch=False, begin=0, end=500),
    dict(type="MultiStepLR", begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1),
]
optim_wrapper = dict(clip_grad=None)
