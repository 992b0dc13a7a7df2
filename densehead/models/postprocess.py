"""From level maps to detections: threshold, best of each level, boxes of the survivors only, suppression."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from densehead.ops import batched_nms, clip_boxes, full_precision, pairwise_iou
from densehead.structures import LevelTensor, Predictions, Priors, horizontal_boxes

if TYPE_CHECKING:
    from densehead.models.heads.base import DenseHead


_VOTES = 1 << 22  # pairs of a detection and a candidate that are looked at together


@dataclass(frozen=True)
class Candidates:
    """Detections before suppression, of all images one after the other: tensors of (N,)."""

    image_index: Tensor
    prior_index: Tensor
    labels: Tensor
    scores: Tensor


def find_classes(head: DenseHead, predictions: Predictions, cfg: Mapping) -> Candidates:
    """Return the classes of priors whose own score is above ``score_thr``, of a level the ``nms_pre`` best of them."""
    found = candidates(
        predictions["cls_logits"], cfg.get("score_thr", 0), cfg.get("nms_pre", -1), is_sigmoid=head.use_sigmoid_cls
    )
    if "quality_logits" not in predictions:
        return found
    quality = predictions["quality_logits"].at(found.image_index, found.prior_index)[:, 0].float()
    return replace(found, scores=head.fuse_scores(found.scores, quality))


def find_priors(head: DenseHead, predictions: Predictions, cfg: Mapping) -> Candidates:
    """Return the classes of priors whose fused score is above ``score_thr``, of the ``nms_pre`` best priors of a level.

    A prior is as good as its best class, so one that is among the best may bring several candidates.
    """
    score_thr, nms_pre = cfg.get("score_thr", 0), cfg.get("nms_pre", -1)
    has_quality = "quality_logits" in predictions
    images, places, start = [], [], 0
    for number, level in enumerate(predictions["cls_logits"].maps):
        base, area = head.num_base_priors, level.shape[-2] * level.shape[-1]
        best = _best_class(level.unflatten(1, (base, -1)), head.use_sigmoid_cls)  # (B, A, h, w)
        if has_quality:
            best = head.fuse_scores(best, predictions["quality_logits"].maps[number].float())
        rows = best.flatten(1)
        image, index = (rows > score_thr).nonzero(as_tuple=True)
        if nms_pre > 0:
            image, index, _ = _best_of_each_image(image, index, rows[image, index], nms_pre, rows.shape[0])
        images.append(image)
        places.append(start + index % area * base + index // area)
        start += area * base
    image, prior = torch.cat(images), torch.cat(places)
    scores = predictions.scores_at(image, prior)
    if has_quality:
        scores = head.fuse_scores(scores, predictions["quality_logits"].at(image, prior).float())
    row, label = (scores > score_thr).nonzero(as_tuple=True)
    return Candidates(image[row], prior[row], label, scores[row, label])


def _best_class(logits: Tensor, is_sigmoid: bool) -> Tensor:
    """(B, A, h, w) the score of the best class, from logits (B, A, C, h, w)."""
    return logits.amax(2).float().sigmoid() if is_sigmoid else logits.float().softmax(2)[:, :, :-1].amax(2)


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
    boxes = head.boxes_at(predictions, priors, found.image_index, found.prior_index)
    if getattr(head.bbox_coder, "clip_border", True):
        boxes = clip_boxes(boxes[:, None], _per_box(image_metas, "img_shape", found, boxes))[:, 0]
    if rescale:
        boxes = boxes / _per_box(image_metas, "scale_factor", found, boxes).repeat(1, 2)
    every = InstanceData(bboxes=boxes, scores=found.scores, labels=found.labels)
    smallest = cfg.get("min_bbox_size", -1)
    is_kept = (boxes[:, 2:] - boxes[:, :2] > smallest).all(-1) | (smallest < 0)
    results = []
    for image in range(len(image_metas)):
        mine = every[is_kept & (found.image_index == image)]
        results.append(head.refine_detections(_suppress(mine, cfg), mine) if with_nms else mine)
    if getattr(head.bbox_coder, "use_box_type", False):
        for result in results:
            result.bboxes = horizontal_boxes(result.bboxes)
    return results


def candidates(logits: LevelTensor, score_thr: float, nms_pre: int, *, is_sigmoid: bool) -> Candidates:
    """Return the classes of priors that score above ``score_thr``, of each level and image the ``nms_pre`` best.

    Sigmoid scores are compared before the sigmoid, which is then taken of the survivors only.

    Args:
        logits: C numbers a prior, or, where the scores are a softmax, C + 1 with the background last.
        score_thr: in [0, 1].
        nms_pre: all if not positive.
        is_sigmoid: which of the two.
    """
    images, places, labels, values = [], [], [], []
    start = 0
    for level in logits.maps:
        scores = level.unflatten(1, (logits.num_base_priors, -1))  # (B, A, C, h, w)
        if not is_sigmoid:
            scores = scores.float().softmax(2)[:, :, :-1]
        rows = scores.flatten(1)
        image, index = (rows > (_logit(score_thr) if is_sigmoid else score_thr)).nonzero(as_tuple=True)
        value = rows[image, index].float()
        if nms_pre > 0:
            image, index, value = _best_of_each_image(image, index, value, nms_pre, rows.shape[0])
        place = index % (level.shape[-2] * level.shape[-1])
        channel = index // (level.shape[-2] * level.shape[-1])
        classes = scores.shape[2]
        images.append(image)
        places.append(start + place * logits.num_base_priors + channel // classes)
        labels.append(channel % classes)
        values.append(value)
        start += level.shape[-2] * level.shape[-1] * logits.num_base_priors
    value = torch.cat(values)
    scores = value.sigmoid() if is_sigmoid else value
    return Candidates(torch.cat(images), torch.cat(places), torch.cat(labels), scores)


def _best_of_each_image(
    image: Tensor, index: Tensor, value: Tensor, count: int, num_images: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Keep of every image the ``count`` entries of the highest value; entries come image by image."""
    counts = image.bincount(minlength=num_images).tolist()
    if max(counts) <= count:
        return image, index, value
    keep, start = [], 0
    for number in counts:
        best = value[start : start + number].topk(min(count, number)).indices
        keep.append(best + start)
        start += number
    keep = torch.cat(keep)
    return image[keep], index[keep], value[keep]


def _suppress(result: InstanceData, cfg: Mapping) -> InstanceData:
    dets, keep = batched_nms(result.bboxes, result.scores, result.labels, cfg["nms"])
    limit = cfg.get("max_per_img", -1)
    result = result[keep]
    result.scores = dets[:, -1]  # soft_nms lowers them
    return result[:limit] if limit > 0 else result


def vote_boxes(
    dets: InstanceData, others: InstanceData, *, sigma: float = 0.025, min_iou: float = 0.01
) -> InstanceData:
    """Return detections whose boxes are means of the candidates of their class (PAA, equation 9), class by class.

    A candidate of score ``s`` that overlaps a detection's box by ``u`` counts ``s * exp(-(1 - u)^2 / sigma)`` in that
    detection's mean. Scores and labels stay.

    Args:
        dets: ``bboxes``, ``scores``, ``labels`` of what suppression left.
        others: the same of all candidates.
        sigma: how fast the weight falls with the overlap.
        min_iou: candidates that overlap less do not count.
    """
    dets = dets[dets.labels.argsort(stable=True)]
    size = max(_VOTES // max(len(others), 1), 1)
    parts = zip(dets.bboxes.split(size), dets.labels.split(size), strict=True)
    boxes = torch.cat([_mean_boxes(*part, others, sigma, min_iou) for part in parts])
    return InstanceData(bboxes=boxes, scores=dets.scores, labels=dets.labels)


def _mean_boxes(boxes: Tensor, labels: Tensor, others: InstanceData, sigma: float, min_iou: float) -> Tensor:
    iou = pairwise_iou(boxes, others.bboxes)  # (n, m)
    counts = (iou > min_iou) & (labels[:, None] == others.labels)
    weight = torch.exp(-((1 - iou) ** 2) / sigma) * full_precision(others.scores) * counts
    total = weight.sum(1, keepdim=True)
    # side by side rather than as a matrix product, which TF32 and autocast round by half a pixel
    mean = torch.stack([(weight * side).sum(1) for side in full_precision(others.bboxes).unbind(1)], 1) / total
    return mean.where(total > 0, boxes)  # a box without extent overlaps not even itself


def _logit(score: float) -> float:
    if score <= 0:
        return -math.inf
    return math.inf if score >= 1 else math.log(score / (1 - score))


def _per_box(metas: list[dict], key: str, found: Candidates, boxes: Tensor) -> Tensor:
    """(N, 2) the first two numbers of a meta key of each candidate's image."""
    values = torch.tensor([tuple(meta[key])[:2] for meta in metas], dtype=boxes.dtype, device=boxes.device)
    return values[found.image_index]


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
