"""A data set that is only in memory: where the speed of a training is measured without the data."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from mmengine.structures import InstanceData
from torch.utils.data import Dataset

from densehead.apis.benchmark.scene import draw_scene
from densehead.registry import DATASETS
from densehead.structures import DetDataSample

IMAGES = 8  # that are kept; they come again
MOST = 14  # objects of an image; half of it on average, as in COCO


@DATASETS.register_module()
class DrawnScenes(Dataset):
    """Noise with boxes, ready for the data preprocessor: loading costs nothing.

    Args:
        size: height and width of all images, pixels.
        num_classes: of the labels.
        length: images of an epoch.
        seed: of all that is drawn.
    """

    def __init__(self, size: Sequence[int], num_classes: int = 80, length: int = 64, seed: int = 0) -> None:
        self.metainfo = {"classes": tuple(f"class {index}" for index in range(num_classes))}
        self.length = length
        generator = torch.Generator().manual_seed(seed)
        height, width = size
        self._items = []
        for index in range(IMAGES):
            count = int(torch.randint(1, MOST, (), generator=generator))
            scene = draw_scene(1, (height, width), count, num_classes, seed=seed + index)
            sample = DetDataSample(metainfo={**scene.metas[0], "img_id": index})
            sample.gt_instances = scene.truths[0]
            sample.ignored_instances = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
            image = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
            self._items.append({"inputs": image, "data_samples": sample})

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> dict:
        item = self._items[index % IMAGES]
        return {"inputs": item["inputs"], "data_samples": item["data_samples"].clone()}
