"""From the results of a pipeline to what a model takes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from mmcv.transforms import BaseTransform
from mmengine.structures import InstanceData
from torch import Tensor

from densehead.registry import TRANSFORMS
from densehead.structures import DetDataSample

FIELDS = {"gt_bboxes": "bboxes", "gt_bboxes_labels": "labels"}


@TRANSFORMS.register_module()
class PackDetInputs(BaseTransform):
    """Pack into ``inputs``, a (C, H, W) tensor, and ``data_samples``, a :class:`DetDataSample`.

    Objects with ``gt_ignore_flags`` go into ``ignored_instances``, all others into ``gt_instances``.

    Args:
        meta_keys: results that the sample keeps as meta information; those that are not there are left out.
    """

    def __init__(
        self,
        meta_keys: Sequence[str] = (
            "img_id",
            "img_path",
            "ori_shape",
            "img_shape",
            "scale_factor",
            "flip",
            "flip_direction",
        ),
    ) -> None:
        self.meta_keys = (meta_keys,) if isinstance(meta_keys, str) else tuple(meta_keys)

    def transform(self, results: dict) -> dict:
        """Return a dict of ``inputs`` (where there is an image) and ``data_samples``."""
        sample = DetDataSample(metainfo={key: results[key] for key in self.meta_keys if key in results})
        sample.gt_instances, sample.ignored_instances = InstanceData(), InstanceData()
        ignore = results.get("gt_ignore_flags")
        for key, field in FIELDS.items():
            if key not in results:
                continue
            if ignore is None:
                sample.gt_instances[field] = torch.from_numpy(results[key])
            else:
                sample.gt_instances[field] = torch.from_numpy(results[key][~ignore])
                sample.ignored_instances[field] = torch.from_numpy(results[key][ignore])
        packed = {"inputs": _image_tensor(results["img"])} if "img" in results else {}
        return packed | {"data_samples": sample}

    def __repr__(self) -> str:
        return f"PackDetInputs(meta_keys={self.meta_keys})"


def _image_tensor(image: np.ndarray) -> Tensor:
    """(H, W, C) or (H, W) to a contiguous (C, H, W)."""
    image = image[..., None] if image.ndim == 2 else image
    # torch permutes and flips many times faster than NumPy, but does not take the negative strides that a flip leaves
    flipped = [axis for axis, stride in enumerate(image.strides) if stride < 0]
    tensor = torch.from_numpy(np.flip(image, flipped)).permute(2, 0, 1).contiguous()
    return tensor.flip([(axis + 1) % 3 for axis in flipped]) if flipped else tensor
