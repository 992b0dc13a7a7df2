# ResNet-50 in caffe's style, with the weights of detectron, on images in BGR; all its batch norms are frozen.
_base_ = "./r50_fpn.py"

model = dict(
    data_preprocessor=dict(mean=[102.9801, 115.9465, 122.7717], std=[1.0, 1.0, 1.0], bgr_to_rgb=False),
    backbone=dict(
        norm_cfg=dict(type="BN", requires_grad=False),
        style="caffe",
        init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://detectron/resnet50_caffe"),
    ),
    neck=dict(relu_before_extra_convs=True),
)
