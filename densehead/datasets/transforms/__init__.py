"""Transforms of the data pipelines, under mmdetection's names and keys; mmcv's own where they do the same.

In the results dict boxes are a plain float32 array ``gt_bboxes`` (n, 4) xyxy in pixels of the current ``img``, classes
an int64 array ``gt_bboxes_labels`` (n,), and ``gt_ignore_flags`` (n,) bool.
"""

from mmcv.transforms import (
    Pad,
    RandomApply,
    RandomChoice,
    RandomChoiceResize,
    RandomFlip,
    RandomResize,
    TestTimeAug,
)

from densehead.datasets.transforms.crop import Expand, MinIoURandomCrop, RandomCrop
from densehead.datasets.transforms.filtering import FilterAnnotations
from densehead.datasets.transforms.formatting import PackDetInputs
from densehead.datasets.transforms.loading import LoadAnnotations, LoadImageFromFile, LoadImageFromNDArray
from densehead.datasets.transforms.photometric import PhotoMetricDistortion, RandomColorJitter
from densehead.datasets.transforms.resize import Resize
from densehead.datasets.transforms.warp import RandomWarp
from densehead.registry import TRANSFORMS

# Registered here too, so that what they build (the Resize of a RandomResize, say) is looked up among ours first.
for _transform in (Pad, RandomApply, RandomChoice, RandomChoiceResize, RandomFlip, RandomResize, TestTimeAug):
    TRANSFORMS.register_module(module=_transform)

__all__ = [
    "Expand",
    "FilterAnnotations",
    "LoadAnnotations",
    "LoadImageFromFile",
    "LoadImageFromNDArray",
    "MinIoURandomCrop",
    "PackDetInputs",
    "Pad",
    "PhotoMetricDistortion",
    "RandomApply",
    "RandomChoice",
    "RandomChoiceResize",
    "RandomColorJitter",
    "RandomCrop",
    "RandomFlip",
    "RandomResize",
    "RandomWarp",
    "Resize",
    "TestTimeAug",
]
