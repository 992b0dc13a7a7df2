# FCOS, ResNet-101 (caffe weights), short side 640 or 800, 24 epochs.
# Paper: https://arxiv.org/abs/1904.01355
# COCO val2017: box AP 40.8 (reference implementation). Cost: 24 epochs, 5.5 GB a GPU with 2 images; 58 ms an image on a V100.
# Command (8 GPUs): tools/dist_train.sh configs/fcos/fcos_r101-caffe_fpn_gn-head_ms-640-800-2x_coco.py 8
_base_ = "./fcos_r50-caffe_fpn_gn-head_ms-640-800-2x_coco.py"

model = dict(
    backbone=dict(depth=101, init_cfg=dict(type="Pretrained", checkpoint="open-mmlab://detectron/resnet101_caffe"))
)
