# What `tools/test.py CONFIG CHECKPOINT --tta` shows the detector of each image: three sizes, each as it is and flipped.
# Name this file among the config's `_base_`; the sizes follow `--cfg-options "tta_scales=[(640,400),(1280,800)]"`.
# A test takes as many times as long as there are views (six here).
tta_scales = [(1333, 800), (666, 400), (2000, 1200)]

tta_model = dict(type="DetTTAModel", tta_cfg=dict(nms=dict(type="nms", iou_threshold=0.5), max_per_img=100))
tta_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(
        type="TestTimeAug",
        transforms=[
            [dict(type="Resize", scale=scale, keep_ratio=True) for scale in tta_scales],
            [dict(type="RandomFlip", prob=0.0), dict(type="RandomFlip", prob=1.0)],
            [dict(type="LoadAnnotations", with_bbox=True)],
            [
                dict(
                    type="PackDetInputs",
                    meta_keys=(
                        "img_id",
                        "img_path",
                        "ori_shape",
                        "img_shape",
                        "scale_factor",
                        "flip",
                        "flip_direction",
                    ),
                )
            ],
        ],
    ),
]
