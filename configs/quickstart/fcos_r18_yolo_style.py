# FCOS on data of your own in the manner of YOLO, from scratch:
#
#     data_root/
#       data.yaml           train: images/train, val: images/val, names: [...] (Roboflow's will do as it is)
#       images/train/  images/val/
#       labels/train/  labels/val/    a text file of the same name for each image: class centre_x centre_y width height
#
# Change the lines down to max_epochs here, or on the command line:
#   python tools/train.py configs/quickstart/fcos_r18_yolo_style.py --cfg-options \
#       data_root=data/cells scale="(320,240)"
# For other layouts: python tools/inspect_dataset.py data/cells --write configs/cells.py
# Paper: FCOS: Fully Convolutional One-Stage Object Detection, https://arxiv.org/abs/1904.01355
# Expected: on 205 images of blood cells (BCCD, three classes, 320 x 240 pixels) bbox_mAP_50 about 0.83.
# Cost: there, 32 epochs in 7 minutes on 2 cores, 1.2 GB of memory.
_base_ = "./fcos_r18_digits.py"

from densehead.datasets import yolo_class_names  # noqa: E402

data_root = "data/mine"
ann_file = "data.yaml"
classes = yolo_class_names(data_root, ann_file)  # those of the file; or some of them, in any order: ("first", "second")
scale = (320, 240)  # images are resized to fit into this width and height, keeping their ratio
flip = 0.5  # probability of mirroring an image; 0 where left and right differ, as in letters
batch_size = 8
max_epochs = 32
# Distances from an object's centre to its sides (pixels, after resizing) for which each pyramid level is responsible:
# up to half the longer side of the objects. For images of 800 x 1333: ((-1, 64), (64, 128), (128, 256), (256, 1e8)).
regress_ranges = ((-1, 48), (48, 96), (96, 192), (192, 1e8))

model = dict(
    neck=dict(num_outs=4),
    bbox_head=dict(num_classes=len(classes), strides=[8, 16, 32, 64], regress_ranges=regress_ranges),
)

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="RandomFlip", prob=flip),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=scale, keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="PackDetInputs", meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")),
]
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=1,
    batch_sampler=dict(type="AspectRatioBatchSampler"),
    dataset=dict(
        _delete_=True,
        type="YOLODataset",
        data_root=data_root,
        metainfo=dict(classes=classes),
        ann_file=ann_file,
        split="train",
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(
        _delete_=True,
        type="YOLODataset",
        data_root=data_root,
        metainfo=dict(classes=classes),
        ann_file=ann_file,
        split="val",
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# COCO's metrics, from the truth of the text files; no annotation file is needed
val_evaluator = dict(type="CocoMetric", metric="bbox")
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=max_epochs, val_interval=8)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=max_epochs, eta_min=2e-5, convert_to_iter_based=True),
]
