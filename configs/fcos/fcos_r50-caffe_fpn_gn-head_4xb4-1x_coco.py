# FCOS, ResNet-50 (caffe weights), on 4 GPUs with 4 images each.
# Paper: https://arxiv.org/abs/1904.01355
# COCO val2017: as with 8 x 2 images, box AP 36.6. Cost: 12 epochs.
# Command (4 GPUs): tools/dist_train.sh configs/fcos/fcos_r50-caffe_fpn_gn-head_4xb4-1x_coco.py 4
_base_ = "./fcos_r50-caffe_fpn_gn-head_1x_coco.py"

train_dataloader = dict(batch_size=4, num_workers=4)
