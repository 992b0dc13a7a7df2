"""COCO annotation files: COCO itself and whatever is written in its format."""

from __future__ import annotations

import os
from collections import defaultdict

import numpy as np

from densehead.datasets import validate
from densehead.datasets.base_det_dataset import BaseDetDataset
from densehead.datasets.coco_file import (
    annotation_columns,
    count_categories,
    find_images,
    read_coco,
    to_xyxy,
    without_gc,
)
from densehead.datasets.folders import require_inside
from densehead.registry import DATASETS
from densehead.visualization.palette import class_colors

# fmt: off
COCO_CLASSES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow", "elephant",
    "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee", "skis", "snowboard",
    "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard", "tennis racket", "bottle",
    "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich", "orange", "broccoli",
    "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant", "bed", "dining table", "toilet",
    "tv", "laptop", "mouse", "remote", "keyboard", "cell phone", "microwave", "oven", "toaster", "sink",
    "refrigerator", "book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush",
)
# fmt: on


@DATASETS.register_module()
class CocoDataset(BaseDetDataset):
    """Images with boxes from a COCO annotation file (https://cocodataset.org/#format-data).

    Label ``i`` is ``metainfo['classes'][i]``, whatever the order of the file's categories. (mmdetection numbers the
    classes in the file's order; where the two differ this is logged.) Crowds get ``ignore_flag`` 1; annotations marked
    ``ignore`` and those with an ``area`` of 0 are left out.

    Attributes:
        cat_ids: the file's ids of the classes it has, in the order of ``classes``.
        cat2label: category id -> label.
        cat_img_map: category id -> ids of the images that show it.

    Args:
        data_prefix: ``img``, the folder of the images, relative to ``data_root``.
        allow_outside: whether a ``file_name`` may lead out of ``data_root``.
        metainfo, filter_cfg, ...: see :class:`BaseDetDataset`.
    """

    METAINFO = {"classes": COCO_CLASSES, "palette": class_colors(None, len(COCO_CLASSES))}

    def __init__(self, *args, allow_outside: bool = False, **kwargs) -> None:
        self.allow_outside = allow_outside
        super().__init__(*args, **kwargs)

    @without_gc()
    def load_data_list(self) -> list[dict]:
        """Read ``ann_file``; return the data info of each image, in the file's order."""
        content = read_coco(self.ann_file, self.backend_args, need_annotations=not self.test_mode)
        columns = annotation_columns(content["annotations"], self.ann_file)
        self._read_categories(content["categories"], columns["category_id"])
        image_folder = self.data_prefix.get("img", self.data_prefix.get("img_path", ""))
        if not self.allow_outside:
            names = [image["file_name"] for image in content["images"]]
            require_inside(names, image_folder, self.data_root or image_folder, self.ann_file)
        infos = [
            {
                "img_path": os.path.join(image_folder, image["file_name"]),
                "img_id": image["id"],
                "seg_map_path": None,
                "height": image["height"],
                "width": image["width"],
            }
            for image in content["images"]
        ]
        for info, instances in zip(infos, self._parse(columns, infos), strict=True):
            info["instances"] = instances
        return infos

    def _read_categories(self, categories: list[dict], category_ids: list) -> None:
        """Match the file's categories with ``classes``."""
        count_of = count_categories(categories, category_ids, self.ann_file)
        classes = self._metainfo["classes"]
        counts = {category["name"]: count_of[category["id"]] for category in categories}
        validate.match_classes(classes, counts, self.ann_file)
        id_of = {category["name"]: category["id"] for category in categories}
        self.cat_ids = [id_of[name] for name in classes if name in id_of]
        self.cat2label = {id_of[name]: label for label, name in enumerate(classes) if name in id_of}
        in_file = [name for name in counts if name in classes]
        if in_file != [name for name in classes if name in counts]:
            validate.inform(
                f"{self.ann_file}: labels follow the order of metainfo['classes'], {validate.listed(classes)}. "
                f"The file's order is another, {validate.listed(in_file)}; mmdetection would number by that."
            )

    def _parse(self, columns: dict, infos: list[dict]) -> list[list[dict]]:
        """Return the instances of each image."""
        image_ids = [info["img_id"] for info in infos]
        image_index = find_images(columns["image_id"], image_ids, self.ann_file)
        labels = np.array([self.cat2label.get(one, -1) for one in columns["category_id"]], dtype=np.int64)
        self.cat_img_map, known = defaultdict(list), set(image_ids)
        for image_id, category_id in dict.fromkeys(zip(columns["image_id"], columns["category_id"], strict=True)):
            if image_id in known:
                self.cat_img_map[category_id].append(image_id)
        wanted = (labels >= 0) & (image_index >= 0) & ~columns["ignore"]
        boxes = to_xyxy(columns["bbox"][wanted])
        crowd, areas = columns["iscrowd"][wanted], columns["area"][wanted]
        return self._instances(boxes, labels[wanted], crowd, image_index[wanted], infos, areas)
