"""From level maps to detections: threshold, best of each level, boxes of the survivors only, suppression."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from densehead.models.postprocess.suppression import by_image, is_large_enough, suppressed
from densehead.models.postprocess.votes import scored_boxes
from densehead.ops import clip_boxes
from densehead.structures import Predictions, Priors, horizontal_boxes

if TYPE_CHECKING:
    from densehead.models.heads.base import DenseHead


def detect(
    head: DenseHead,
    predictions: Predictions,
    priors: Priors,
    image_metas: list[dict],
    cfg: Mapping | None,
    rescale: bool = False,
    with_nms: bool = True,
) -> list[InstanceData]:
    """Return the detections of each image, best first: ``bboxes`` (n, 4) xyxy, ``scores`` (n,), ``labels`` (n,).

    Boxes are of mmdetection's box class where the head's ``bbox_coder`` has ``use_box_type=True``.

    Args:
        head: reads boxes from the maps, finds the candidates and refines what suppression leaves.
        predictions: maps of the batch.
        priors: where they predict from.
        image_metas: of each image ``img_shape`` (boxes are clipped to it) and, to rescale, ``scale_factor`` (w, h).
        cfg: ``score_thr`` and ``nms_pre``, what is a candidate and how many of a level and image go on (all if not
            positive), see :func:`find_classes` and :func:`find_priors`; ``min_bbox_size``, the side (pixels) that boxes
            must exceed, no limit if negative; ``nms``, see :func:`densehead.ops.batched_nms`; ``max_per_img``, how many
            detections stay, all if not positive.
        rescale: whether boxes are in pixels of the original image.
        with_nms: whether detections are suppressed and their number limited.

    Raises:
        ValueError: no ``cfg``, no metas, or a key missing in one of them.
    """
    _check(cfg, image_metas, predictions["cls_logits"].maps[0].shape[0], rescale, with_nms)
    found = head.find_candidates(predictions, cfg)
    read = partial(_read_boxes, head, predictions, priors, image_metas, rescale=rescale)
    num_images = len(image_metas)
    if not with_nms or head.refines_detections:  # all boxes are wanted
        table = read(found.place_image, found.place_prior)
        found = found.take(is_large_enough(table, cfg)[found.place])
        every = torch.arange(len(found.scores), device=table.device)
        if not with_nms:
            results = by_image(found, every, table[found.place], num_images)
        else:
            results = suppressed(found, lambda index: table[found.place[index]], cfg, num_images)
            voters = scored_boxes(found, table, head.num_classes, num_images)
            results = [head.refine_detections(*both) for both in zip(results, voters, strict=True)]
    else:

        def boxes_at(index: Tensor) -> Tensor:
            return read(found.image_index[index], found.prior_index[index])

        results = suppressed(found, boxes_at, cfg, num_images)
    if getattr(head.bbox_coder, "use_box_type", False):
        for result in results:
            result.bboxes = horizontal_boxes(result.bboxes)
    return results


def _read_boxes(
    head: DenseHead,
    predictions: Predictions,
    priors: Priors,
    metas: list[dict],
    image: Tensor,
    prior: Tensor,
    *,
    rescale: bool,
) -> Tensor:
    """Return (n, 4) the boxes of priors, clipped and, where asked for, in pixels of the original images."""
    boxes = head.boxes_at(predictions, priors, image, prior)
    if getattr(head.bbox_coder, "clip_border", True):
        boxes = clip_boxes(boxes[:, None], _per_box(metas, "img_shape", image, boxes))[:, 0]
    if rescale:
        boxes = boxes / _per_box(metas, "scale_factor", image, boxes).repeat(1, 2)
    return boxes


def _per_box(metas: list[dict], key: str, image: Tensor, boxes: Tensor) -> Tensor:
    """(n, 2) the first two numbers of a meta key of each box's image."""
    values = torch.tensor([tuple(meta[key])[:2] for meta in metas], dtype=boxes.dtype, device=boxes.device)
    return values[image]


def _check(cfg: Mapping | None, metas: list[dict] | None, num_images: int, rescale: bool, with_nms: bool) -> None:
    if not cfg:
        raise ValueError(
            "predicting needs model.test_cfg, e.g. dict(nms_pre=1000, min_bbox_size=0, score_thr=0.05, "
            f"nms=dict(type='nms', iou_threshold=0.6), max_per_img=100), but got {cfg}"
        )
    if with_nms and "nms" not in cfg:
        raise ValueError(f"model.test_cfg lacks nms=dict(type='nms', iou_threshold=...): it has {sorted(cfg)}")
    if metas is None or len(metas) != num_images:
        raise ValueError(
            f"predicting needs the metas of all {num_images} images of the batch (batch_img_metas), but got "
            f"{'none' if metas is None else len(metas)}"
        )
    for image, meta in enumerate(metas):
        for key in ["img_shape", "scale_factor"] if rescale else ["img_shape"]:
            if key not in meta:
                raise ValueError(
                    f"image {image} of the batch has no meta key {key!r}: add it to meta_keys of PackDetInputs; it has "
                    f"{sorted(meta)}"
                )
