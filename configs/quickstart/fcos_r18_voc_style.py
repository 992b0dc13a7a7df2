# FCOS on data of your own in the layout of Pascal VOC, from scratch:
#
#     data_root/
#       JPEGImages/                 one image a file
#       Annotations/                an XML file of the same name for each
#       ImageSets/Main/train.txt    the names, without ending, of the images to train on
#       ImageSets/Main/val.txt      and of those to validate on
#
# Change the lines down to max_epochs here, or on the command line:
#   python tools/train.py configs/quickstart/fcos_r18_voc_style.py --cfg-options \
#       data_root=data/cells classes="('RBC','WBC','Platelets')" scale="(320,240)"
# Paper: FCOS: Fully Convolutional One-Stage Object Detection, https://arxiv.org/abs/1904.01355
# Expected: on 205 images of blood cells (BCCD, three classes, 320 x 240 pixels) bbox_mAP_50 about 0.83.
# Cost: there, 32 epochs in 7 minutes on 2 cores, 1.2 GB of memory.
_base_ = "./fcos_r18_digits.py"

data_root = "data/mine"
classes = ("first", "second")  # as the XML files name them, in any order
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
        type="VOCDataset",
        data_root=data_root,
        metainfo=dict(classes=classes),
        ann_file="ImageSets/Main/train.txt",
        data_prefix=dict(sub_data_root=""),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=batch_size,
    dataset=dict(
        _delete_=True,
        type="VOCDataset",
        data_root=data_root,
        metainfo=dict(classes=classes),
        ann_file="ImageSets/Main/val.txt",
        data_prefix=dict(sub_data_root=""),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

# COCO's metrics, from the truth of the XML files; dict(type="VOCMetric", eval_mode="area") gives VOC's
val_evaluator = dict(type="CocoMetric", metric="bbox")
test_evaluator = val_evaluator

train_cfg = dict(max_epochs=max_epochs, val_interval=8)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.01, by_epoch=False, begin=0, end=100),
    dict(type="CosineAnnealingLR", by_epoch=True, begin=0, end=max_epochs, eta_min=2e-5, convert_to_iter_based=True),
]
