"""Data sets of other forms, as they list their images themselves."""

from __future__ import annotations

import numpy as np
from mmengine.dataset import BaseDataset

from densehead.analysis.doctor.annotations import Annotations


def read_list(dataset: BaseDataset) -> Annotations:
    """Take the images and boxes of a data set that was not initialised yet; what it leaves out itself is not seen.

    Raises:
        ValueError, TypeError, KeyError, FileNotFoundError: whatever the data set does not put up with.
    """
    dataset.filter_cfg = None
    dataset._indices = None
    dataset.full_init()
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    objects = [(i, j, one) for i, info in enumerate(infos) for j, one in enumerate(info.get("instances", ()))]
    paths = [info["img_path"] for info in infos]
    sizes = [(info.get("width") or np.nan, info.get("height") or np.nan) for info in infos]
    return Annotations(
        file=str(getattr(dataset, "source", "") or type(dataset).__name__),
        item="object",
        image_ids=[info.get("img_id", index) for index, info in enumerate(infos)],
        image_paths=paths,
        sources=paths,
        sizes=np.array(sizes, dtype=np.float64).reshape(-1, 2),
        names=list(dataset.metainfo["classes"]),
        boxes=np.array([one["bbox"] for _, _, one in objects], dtype=np.float64).reshape(-1, 4),
        box_ids=[index for _, index, _ in objects],
        box_entries=np.array([index for _, index, _ in objects], dtype=np.int64),
        image_entries=np.arange(len(infos)),
        image_index=np.array([image for image, _, _ in objects], dtype=np.int64),
        name_index=np.array([one["bbox_label"] for _, _, one in objects], dtype=np.int64),
        is_ignored=np.array([bool(one.get("ignore_flag", 0)) for _, _, one in objects], dtype=bool),
        is_left_out=np.zeros(len(objects), dtype=bool),
        writing="corners",
    )
