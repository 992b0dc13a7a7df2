"""A data set to try things with, made of what scikit-learn brings along."""

from __future__ import annotations

import os

from densehead.datasets.coco import CocoDataset
from densehead.datasets.digits_scene import DigitsSpec, write_digits
from densehead.registry import DATASETS
from densehead.visualization.palette import class_colors

NUM_IMAGES = {"train": 3000, "val": 500}


@DATASETS.register_module()
class DigitsDataset(CocoDataset):
    """Handwritten digits at many sizes, colours and overlaps on crops of photographs; ten classes, ``'0'`` to ``'9'``.

    The digits are the 1,797 of scikit-learn (``load_digits``, 8x8 pixels), the photographs its two
    (``load_sample_images``); nothing is downloaded. One handwritten sample in five is in the validation scenes only,
    the others are in the training scenes only. The scenes are written once, as JPEG files and a COCO annotation file,
    to ``data_root/<split>-<num_images>x<image_size>-seed<seed>/``, and read from there like any COCO data set: the
    annotation file of the usual validation set is ``data/digits/val-500x128-seed0/annotations.json``.

    Args:
        data_root: where the folders of scenes are written.
        split: ``'train'`` or ``'val'``.
        num_images: 3,000 for training and 500 for validation if None.
        image_size: side of the images, pixels.
        seed: scenes of another seed are others.
        digits: further keys of :class:`~densehead.datasets.digits_scene.DigitsSpec`, such as ``max_digits``.
        **kwargs: of :class:`CocoDataset`, but for ``ann_file``, ``data_prefix`` and ``metainfo``.

    Raises:
        ValueError: parameters that no scene can be made of.
    """

    METAINFO = {"classes": tuple("0123456789"), "palette": class_colors(None, 10)}

    def __init__(
        self,
        data_root: str = "data/digits",
        split: str = "train",
        num_images: int | None = None,
        image_size: int = 128,
        seed: int = 0,
        digits: dict | None = None,
        **kwargs,
    ) -> None:
        num_images = NUM_IMAGES.get(split, 1) if num_images is None else num_images
        self.spec = DigitsSpec(split=split, num_images=num_images, image_size=image_size, seed=seed, **(digits or {}))
        super().__init__(
            data_root=data_root,
            ann_file=os.path.join(self.spec.folder, "annotations.json"),
            data_prefix={"img": os.path.join(self.spec.folder, "images")},
            **kwargs,
        )

    def check_paths(self) -> None:
        """Write the scenes unless they are there."""
        write_digits(self.spec, self.data_root)
        super().check_paths()
