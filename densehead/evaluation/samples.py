"""Truth and detections of a data sample, as arrays on the host."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np


def class_names(dataset_meta: Mapping | None, metric: str) -> Sequence[str]:
    """Return the names of the data set's classes, or raise a ValueError that names ``metric``."""
    classes = (dataset_meta or {}).get("classes")
    if not classes:
        raise ValueError(
            f"{metric} needs the names of the classes: dataset_meta['classes'], which comes from the data set's "
            f"metainfo, but dataset_meta is {dataset_meta!r}"
        )
    return classes


def check_labels(labels: np.ndarray, num_classes: int, where: str) -> None:
    """Raise a ValueError if a detection's label is no class.

    Args:
        labels: (n,) labels of detections.
        num_classes: how many there are.
        where: what the detections are of, for the message.
    """
    if labels.size and not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f"the detections of {where} have labels from {labels.min()} to {labels.max()}, but the data set has "
            f"{num_classes} classes: set bbox_head.num_classes={num_classes}"
        )


def detections_of(sample: Mapping) -> dict[str, np.ndarray]:
    """Return ``bboxes`` (n, 4) xyxy in pixels, ``scores`` (n,) and ``labels`` (n,) of a sample's detections."""
    detected = sample["pred_instances"]
    return {
        "bboxes": _array(detected["bboxes"]).reshape(-1, 4),
        "scores": _array(detected["scores"]),
        "labels": _array(detected["labels"]),
    }


def image_of(sample: Mapping) -> dict[str, Any]:
    """Return ``img_id``, ``width`` and ``height`` (pixels of the original image) of a sample."""
    height, width = sample["ori_shape"][:2]
    return {"img_id": sample["img_id"], "width": int(width), "height": int(height)}


def truth_of(sample: Mapping, *, needed_by: str) -> dict[str, Any]:
    """Return :func:`image_of` a sample with its truth as ``anns``: ``bbox`` (xyxy), ``bbox_label``, ``ignore_flag``.

    Args:
        sample: with ``instances`` (mmdetection's list of such dicts), or with ``gt_instances`` and perhaps
            ``ignored_instances``.
        needed_by: who asks, for the message.

    Raises:
        ValueError: the sample has none of them.
    """
    if sample.get("instances") is not None:
        return {**image_of(sample), "anns": list(sample["instances"])}
    if sample.get("gt_instances") is None or "bboxes" not in sample["gt_instances"]:
        raise ValueError(
            f"{needed_by} takes the truth from the data samples, but the sample of image {sample.get('img_id')!r} has "
            "neither 'gt_instances' nor 'instances': put dict(type='LoadAnnotations', with_bbox=True) into the test "
            "pipeline, after Resize and before PackDetInputs, or use CocoMetric with an ann_file"
        )
    anns = _instances(sample["gt_instances"], 0) + _instances(sample.get("ignored_instances"), 1)
    return {**image_of(sample), "anns": anns}


def warn_of_resized_truth(images: Sequence[Mapping], logger: logging.Logger) -> None:
    """Tell of truth far outside its image, the sign of a test pipeline with ``LoadAnnotations`` before ``Resize``."""
    outside = [
        image["img_id"]
        for image in images
        if any(
            ann["bbox"][2] > 1.1 * image["width"] + 1 or ann["bbox"][3] > 1.1 * image["height"] + 1
            for ann in image["anns"]
        )
    ]
    if outside:
        logger.warning(
            f"the truth of {len(outside)} images (the first is {outside[0]!r}) reaches beyond the original image: in "
            "the test pipeline LoadAnnotations must stand after Resize, since detections are in pixels of the original"
        )


def _instances(instances: Mapping | None, ignore_flag: int) -> list[dict[str, Any]]:
    if instances is None or "bboxes" not in instances:
        return []
    boxes = _array(instances["bboxes"]).reshape(-1, 4).tolist()
    labels = _array(instances["labels"]).tolist()
    return [
        {"bbox": box, "bbox_label": label, "ignore_flag": ignore_flag} for box, label in zip(boxes, labels, strict=True)
    ]


def _array(values: Any) -> np.ndarray:
    """Copy a tensor, or anything that wraps one as ``.tensor``, to the host."""
    values = getattr(values, "tensor", values)
    return values.detach().cpu().numpy() if hasattr(values, "detach") else np.asarray(values)
