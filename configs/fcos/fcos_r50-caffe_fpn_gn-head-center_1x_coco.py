# FCOS with centre sampling: only points within 1.5 strides of a box's centre are positives.
# Paper: https://arxiv.org/abs/1904.01355
# COCO val2017: box AP not published. Cost: 12 epochs, 3.6 GB a GPU with 2 images.
# Command (8 GPUs): tools/dist_train.sh configs/fcos/fcos_r50-caffe_fpn_gn-head-center_1x_coco.py 8
_base_ = "./fcos_r50-caffe_fpn_gn-head_1x_coco.py"

model = dict(bbox_head=dict(center_sampling=True, center_sample_radius=1.5))
