# NanoDet-Plus-m, ShuffleNet V2 1.0x, 416 x 416.
# Code: https://github.com/RangiLyu/nanodet (config/nanodet-plus-m_416.yml); losses of https://arxiv.org/abs/2006.04388
# COCO val2017: box AP 30.4 (official code). Cost: 300 epochs with 96 images on one GPU; 1.52 GFLOPs an image.
# Command: python tools/train.py configs/nanodet/nanodet-plus-m_416_coco.py
_base_ = "./nanodet-plus-m_320_coco.py"

train_pipeline = [
    dict(type="LoadImageFromFile", backend_args={{_base_.backend_args}}),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(
        type="RandomWarp",
        size=(416, 416),
        scale=(0.6, 1.4),
        stretch=((0.8, 1.2), (0.8, 1.2)),
        translate=0.2,
        flip=0.5,
    ),
    dict(type="RandomColorJitter", brightness=0.2, contrast=(0.6, 1.4), saturation=(0.5, 1.2)),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile", backend_args={{_base_.backend_args}}),
    dict(type="Resize", scale=(416, 416), keep_ratio=False),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
