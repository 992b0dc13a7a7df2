"""COCO's two file formats: annotations and results."""

from __future__ import annotations

import json
import logging
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from mmengine.fileio import get_text

from densehead.evaluation.samples import check_labels


def load_annotation_file(ann_file: str, backend_args: dict | None, *, needs_truth: bool) -> dict:
    """Read a COCO annotation file.

    Args:
        ann_file: its path.
        backend_args: where it is, see :mod:`mmengine.fileio`.
        needs_truth: False for a file that only lists images, as those of test sets without public truth do.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is no JSON, or no COCO.
    """
    try:
        content = json.loads(get_text(ann_file, backend_args=backend_args))
    except FileNotFoundError as error:
        raise FileNotFoundError(f"CocoMetric.ann_file={str(ann_file)!r} does not exist") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"CocoMetric.ann_file={str(ann_file)!r} is no JSON: {error}") from error
    wanted = ("images", "categories", "annotations") if needs_truth else ("images", "categories")
    missing = [key for key in wanted if not isinstance(content, dict) or not isinstance(content.get(key), list)]
    if missing:
        found = f"an object with {sorted(content)}" if isinstance(content, dict) else f"a {type(content).__name__}"
        hint = (
            "; without truth the detections can only be written: format_only=True" if "annotations" in missing else ""
        )
        raise ValueError(
            f"CocoMetric.ann_file={str(ann_file)!r} must be a COCO file, an object with lists {list(wanted)}, but "
            f"{missing} are missing from {found}{hint}"
        )
    return content


def category_ids(truth: Mapping, classes: Sequence[str], ann_file: str) -> list:
    """Return the id of the category of each class, found by its name.

    Raises:
        ValueError: a class is in the file not at all, or more than once.
    """
    names = [category["name"] for category in truth["categories"]]
    ids = {category["name"]: category["id"] for category in truth["categories"]}
    missing = [name for name in classes if name not in ids]
    if missing:
        raise ValueError(
            f"CocoMetric: the classes {missing} of the data set (metainfo) are not among the categories of "
            f"ann_file={str(ann_file)!r}, which are {names}: correct metainfo=dict(classes=...) or the file"
        )
    twice = [name for name, count in Counter(names).items() if count > 1 and name in classes]
    if twice:
        raise ValueError(f"CocoMetric.ann_file={str(ann_file)!r} has more than one category of the names {twice}")
    return [ids[name] for name in classes]


def truth_to_coco(images: Sequence[Mapping], classes: Sequence[str]) -> dict:
    """Make the content of a COCO annotation file; categories get the labels as ids, ignored objects become crowds.

    Args:
        images: of each image ``img_id``, ``width``, ``height`` and ``anns``: dicts with ``bbox`` (xyxy, pixels),
            ``bbox_label`` and perhaps ``ignore_flag``.
        classes: the names.
    """
    annotations = []
    for image in images:
        for ann in image["anns"]:
            left, top, right, bottom = (float(edge) for edge in ann["bbox"])
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["img_id"],
                    "category_id": int(ann["bbox_label"]),
                    "bbox": [left, top, right - left, bottom - top],
                    "area": (right - left) * (bottom - top),
                    "iscrowd": int(ann.get("ignore_flag", 0)),
                }
            )
    return {
        "info": {"description": "ground truth of data samples, written by densehead's CocoMetric"},
        "images": [
            {"id": image["img_id"], "width": image["width"], "height": image["height"], "file_name": ""}
            for image in images
        ],
        "categories": [{"id": label, "name": name} for label, name in enumerate(classes)],
        "annotations": annotations,
    }


def detections_to_coco(results: Sequence[Mapping], cat_ids: Sequence, logger: logging.Logger) -> list[dict]:
    """Make the content of a COCO result file.

    Args:
        results: of each image ``img_id``, ``bboxes`` (n, 4) xyxy in pixels, ``scores`` (n,) and ``labels`` (n,).
        cat_ids: the category of each label.
        logger: told how many detections were left out because a number of theirs is not finite.

    Raises:
        ValueError: a label that is no class.
    """
    detections: list[dict] = []
    dropped = 0
    for result in results:
        boxes, scores, labels = result["bboxes"], result["scores"], result["labels"]
        check_labels(labels, len(cat_ids), f"image {result['img_id']!r}")
        finite = np.isfinite(boxes).all(1) & np.isfinite(scores)
        dropped += int((~finite).sum())
        boxes = np.concatenate([boxes[finite, :2], boxes[finite, 2:] - boxes[finite, :2]], 1)
        detections += [
            {"image_id": result["img_id"], "bbox": box, "score": score, "category_id": cat_ids[label]}
            for box, score, label in zip(boxes.tolist(), scores[finite].tolist(), labels[finite].tolist(), strict=True)
        ]
    if dropped:
        logger.warning(
            f"{dropped} detections with a NaN or infinite box or score were left out: has training diverged?"
        )
    return detections
