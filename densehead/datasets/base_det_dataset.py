"""What the data sets for detection have in common."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from mmengine.dataset import BaseDataset

from densehead.datasets import validate
from densehead.registry import DATASETS, TRANSFORMS
from densehead.visualization.palette import class_colors


@DATASETS.register_module()
class BaseDetDataset(BaseDataset):
    """Base of detection data sets; all keys of :class:`mmengine.dataset.BaseDataset`.

    Transforms of the pipeline are looked up among densehead's first, whatever the default scope is. A data info has
    ``img_path``, ``img_id``, ``height``, ``width`` and ``instances``, a list of ``bbox`` (xyxy, pixels),
    ``bbox_label`` and ``ignore_flag``.

    Args:
        metainfo: ``classes``, the names in the order of their labels; ``palette``, RGB colours (made if absent).
        filter_cfg: for training, drops images: ``filter_empty_gt=True`` those without an object, ``min_size`` those
            whose shorter side is below it (pixels).
        backend_args: of mmengine's file backend.
        return_classes: accepted for mmdetection's configs; no detector here reads text.

    Raises:
        ValueError, TypeError, FileNotFoundError: what cannot be trained on; see :mod:`densehead.datasets.validate`.
    """

    FILTER_KEYS = ("filter_empty_gt", "min_size")
    _UNSUPPORTED = ("proposal_file", "file_client_args", "caption_prompt")

    def __init__(
        self,
        *args,
        pipeline: Sequence[dict | Callable] = (),
        backend_args: Mapping | None = None,
        return_classes: bool = False,
        **kwargs,
    ) -> None:
        for key in self._UNSUPPORTED:
            if kwargs.pop(key, None) is not None:
                advice = "use backend_args" if key == "file_client_args" else "no detector here reads it; remove it"
                raise ValueError(f"{type(self).__name__}: the key {key!r} is not supported: {advice}")
        validate.check_filter(kwargs.get("filter_cfg"), self.FILTER_KEYS, type(self).__name__)
        self.backend_args = backend_args
        self.return_classes = return_classes
        built = [TRANSFORMS.build(one) if isinstance(one, dict) else one for one in pipeline]
        super().__init__(*args, pipeline=built, **kwargs)

    @classmethod
    def _load_metainfo(cls, metainfo: Mapping | None = None) -> dict:
        given = metainfo or {}
        if "CLASSES" in given:
            raise ValueError(f"{cls.__name__}: metainfo has the key 'CLASSES'; since mmdetection 3 it is 'classes'")
        meta = super()._load_metainfo(metainfo)
        if "classes" in meta:
            meta["classes"] = validate.check_classes(meta["classes"], cls.__name__)
            if "palette" not in meta or ("classes" in given and "palette" not in given):
                meta["palette"] = class_colors(None, len(meta["classes"]))
        return meta

    @property
    def source(self) -> str:
        """What messages call the data set: its annotation file."""
        return self.ann_file

    def full_init(self) -> None:
        """Read, check and filter the annotations, unless that is done."""
        if self._fully_initialized:
            return
        if self._indices is not None and not self._indices:
            raise ValueError(
                f"{type(self).__name__}: indices={self._indices!r} selects no image; remove it, or name some"
            )
        self.check_paths()
        super().full_init()

    def check_paths(self) -> None:
        """Raise an error that names the annotation file or the data root where they are missing."""
        validate.require_path(
            self.ann_file,
            key="ann_file",
            owner=type(self).__name__,
            data_root=self.data_root,
            backend_args=self.backend_args,
        )

    def filter_data(self) -> list[dict]:
        """Return the images that ``filter_cfg`` leaves (all where testing); see the class.

        Raises:
            ValueError: none is left.
        """
        filter_cfg = {} if self.test_mode else self.filter_cfg or {}
        left = self.data_list
        reasons = {}
        if filter_cfg.get("filter_empty_gt", False):
            left = [info for info in left if info["instances"]]
            reasons["filter_empty_gt=True (no object of the classes)"] = len(self.data_list) - len(left)
        if min_size := filter_cfg.get("min_size", 0):
            before = len(left)
            left = [info for info in left if min(info["width"], info["height"]) >= min_size]
            reasons[f"min_size={min_size}"] = before - len(left)
        validate.require_images(len(left), len(self.data_list), reasons, self.source)
        if not self.test_mode and not any(info["instances"] for info in left):
            validate.warn(f"{self.source}: no image has an object of the classes; only background can be learned.")
        return left

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the labels of an image's objects (:class:`ClassBalancedDataset` asks)."""
        return [instance["bbox_label"] for instance in self.get_data_info(idx)["instances"]]

    def _instances(
        self,
        boxes: np.ndarray,
        labels: np.ndarray,
        ignore: np.ndarray,
        image_index: np.ndarray,
        images: Sequence[dict],
        areas: np.ndarray | None = None,
        place: Callable[[int], str] | None = None,
    ) -> list[list[dict]]:
        """Check boxes (n, 4) xyxy and return the instances of each image, in their order.

        ``labels``, ``ignore``, ``image_index`` and ``areas`` are (n,), ``images`` the data infos. ``place`` says where
        a box stands; without it, its image is named.
        """
        sizes = np.array([(info["width"], info["height"]) for info in images], dtype=np.float64).reshape(-1, 2)
        check = validate.check_boxes(boxes, *sizes[image_index].T, areas)
        place = place or (lambda box: images[image_index[box]]["img_path"])
        validate.report_boxes(check, boxes, place, self.source)
        instances: list[list[dict]] = [[] for _ in images]
        kept = zip(
            image_index[check.keep].tolist(),
            check.boxes[check.keep].tolist(),
            labels[check.keep].tolist(),
            ignore[check.keep].astype(int).tolist(),
            strict=True,
        )
        for image, box, label, flag in kept:
            instances[image].append({"bbox": box, "bbox_label": label, "ignore_flag": flag})
        return instances
