"""From level maps to detections: threshold, best of each level, boxes of the survivors only, suppression."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from densehead.ops import aligned_iou, batched_nms, clip_boxes, full_precision
from densehead.structures import LevelTensor, Predictions, Priors, horizontal_boxes

if TYPE_CHECKING:
    from densehead.models.heads.base import DenseHead


BoxesAt = Callable[[Tensor], Tensor]
FIRST_LOOK = 10  # times as many candidates as detections are asked for
BLOCK = 64
_VOTES = 1 << 20  # pairs of a detection and a candidate that are looked at together


@dataclass(frozen=True)
class Candidates:
    """Detections before suppression, of all images one after the other: tensors of (N,)."""

    image_index: Tensor
    prior_index: Tensor
    labels: Tensor
    scores: Tensor

    def take(self, index: Tensor) -> Candidates:
        """Return those of some places."""
        return Candidates(self.image_index[index], self.prior_index[index], self.labels[index], self.scores[index])


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
        image, index = _above(rows, score_thr)
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
    found = found.take(found.image_index.argsort(stable=True))
    read = partial(_read_boxes, head, predictions, priors, image_metas, rescale=rescale)
    if not with_nms:
        results = _by_image(found, *_large_enough(found, read(found), cfg), len(image_metas))
    elif head.refines_detections:
        index, boxes = _large_enough(found, read(found), cfg)
        found = found.take(index)
        every = _by_image(found, torch.arange(len(index), device=index.device), boxes, len(image_metas))
        detected = _suppressed(found, lambda index: boxes[index], cfg, len(image_metas))
        results = [head.refine_detections(*both) for both in zip(detected, every, strict=True)]
    else:
        results = _suppressed(found, lambda index: read(found.take(index)), cfg, len(image_metas))
    if getattr(head.bbox_coder, "use_box_type", False):
        for result in results:
            result.bboxes = horizontal_boxes(result.bboxes)
    return results


def _limit(cfg: Mapping) -> int:
    """How many detections an image may have at most, -1 for any number."""
    limits = [limit for limit in (cfg.get("max_per_img", -1), (cfg["nms"] or {}).get("max_num", -1)) if limit > 0]
    return min(limits, default=-1)


def _read_boxes(
    head: DenseHead, predictions: Predictions, priors: Priors, metas: list[dict], found: Candidates, *, rescale: bool
) -> Tensor:
    """Return (N, 4) the boxes of candidates, clipped and, where asked for, in pixels of the original images."""
    boxes = head.boxes_at(predictions, priors, found.image_index, found.prior_index)
    if getattr(head.bbox_coder, "clip_border", True):
        boxes = clip_boxes(boxes[:, None], _per_box(metas, "img_shape", found, boxes))[:, 0]
    if rescale:
        boxes = boxes / _per_box(metas, "scale_factor", found, boxes).repeat(1, 2)
    return boxes


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
        image, index = _above(rows, _logit(score_thr) if is_sigmoid else score_thr)
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


def _above(rows: Tensor, threshold: float) -> tuple[Tensor, Tensor]:
    """Return rows and columns of the few entries of (n, m) that are above a threshold, row by row.

    On the host the greatest of a block is looked at first: most scores are of background.
    """
    flat = rows.flatten()
    whole = flat.numel() // BLOCK * BLOCK
    if flat.is_cuda or not whole:
        return (rows > threshold).nonzero(as_tuple=True)
    blocks = flat[:whole].view(-1, BLOCK)
    block = (~(blocks.amax(1) <= threshold)).nonzero().squeeze(1)  # with those that hold a NaN
    hit = (blocks.index_select(0, block) > threshold).flatten().nonzero().squeeze(1)
    index = block[hit // BLOCK] * BLOCK + hit % BLOCK
    if whole < flat.numel():
        index = torch.cat([index, (flat[whole:] > threshold).nonzero().squeeze(1) + whole])
    row = index.div(rows.shape[1], rounding_mode="floor")
    return row, index - row * rows.shape[1]


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


def _large_enough(found: Candidates, boxes: Tensor, cfg: Mapping) -> tuple[Tensor, Tensor]:
    """Return which candidates have boxes larger than ``min_bbox_size``, and these boxes."""
    smallest = cfg.get("min_bbox_size", -1)
    if smallest < 0:
        return torch.arange(len(boxes), device=boxes.device), boxes
    index = (boxes[:, 2:] - boxes[:, :2] > smallest).all(-1).nonzero().squeeze(1)
    return index, boxes[index]


def _by_image(found: Candidates, index: Tensor, boxes: Tensor, num_images: int) -> list[InstanceData]:
    """Return of each image the candidates at ``index`` (n,), image by image, whose boxes are (n, 4)."""
    some = found.take(index)
    return [
        InstanceData(bboxes=boxes[start:stop], scores=some.scores[start:stop], labels=some.labels[start:stop])
        for start, stop in pairwise(_starts(some.image_index, num_images))
    ]


def _starts(image_index: Tensor, num_images: int) -> list[int]:
    """Where in (N,) image numbers, in order, each image begins, and the end."""
    return torch.searchsorted(image_index, torch.arange(num_images + 1, device=image_index.device)).tolist()


def _suppressed(found: Candidates, boxes_at: BoxesAt, cfg: Mapping, num_images: int) -> list[InstanceData]:
    """Return what suppression leaves of each image; ``found`` has the candidates image by image.

    A box is hard-suppressed by better ones alone. So what the best leave among themselves is the beginning of what all
    leave, and of most candidates not even the boxes are read.
    """
    limit, nms_cfg = _limit(cfg), cfg["nms"]
    every = torch.arange(len(found.scores), device=found.scores.device)
    if limit > 0 and nms_cfg and nms_cfg.get("type", "nms") == "nms":
        starts = _starts(found.image_index, num_images)
        parts = [_best(found.scores, *ends, FIRST_LOOK * limit) for ends in pairwise(starts)]
        index = torch.cat(parts)
        if 2 * len(index) < len(every):
            results = _suppress(found.take(index), boxes_at(index), cfg, num_images)
            looked = zip(results, parts, pairwise(starts), strict=True)
            if all(len(result) == limit or len(part) == stop - start for result, part, (start, stop) in looked):
                return results
    return _suppress(found, boxes_at(every), cfg, num_images)


def _best(scores: Tensor, start: int, stop: int, count: int) -> Tensor:
    """Return which of the scores from ``start`` to ``stop`` are the ``count`` best, with all that score the same."""
    part = scores[start:stop]
    if len(part) <= count:
        return torch.arange(start, stop, device=scores.device)
    return (part >= part.topk(count).values[-1]).nonzero().squeeze(1) + start


def _suppress(found: Candidates, boxes: Tensor, cfg: Mapping, num_images: int) -> list[InstanceData]:
    index, boxes = _large_enough(found, boxes, cfg)
    found = found.take(index)
    limit, nms_cfg = _limit(cfg), dict(cfg["nms"] or {})
    nms_cfg.pop("max_num", None)
    some = slice(limit if limit > 0 else None)
    results = []
    if boxes.device.type == "cpu" and nms_cfg and nms_cfg.get("type", "nms") == "nms":  # all images at once
        groups = found.image_index
        if not nms_cfg.pop("class_agnostic", False) and len(boxes):
            groups = groups * (found.labels.max() + 1) + found.labels
        keep = batched_nms(boxes, found.scores, groups, nms_cfg)[1]
        image = found.image_index[keep]
        for number in range(num_images):
            mine = keep[image == number][some]
            results.append(InstanceData(bboxes=boxes[mine], scores=found.scores[mine], labels=found.labels[mine]))
        return results
    if nms_cfg and limit > 0:
        nms_cfg["max_num"] = limit
    for one in _by_image(found, torch.arange(len(boxes), device=boxes.device), boxes, num_images):
        dets, keep = batched_nms(one.bboxes, one.scores, one.labels, nms_cfg or None)
        one = one[keep[some]]
        one.scores = dets[some, -1]  # soft_nms lowers them
        results.append(one)
    return results


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
    labels, order = others.labels.sort(stable=True)
    sides, scores = full_precision(others.bboxes)[order], full_precision(others.scores)[order]
    # of each detection the candidates of its class, which stand side by side
    first = torch.searchsorted(labels, dets.labels)
    count = torch.searchsorted(labels, dets.labels, right=True) - first
    boxes = [others.bboxes[:0]] + [
        _mean_boxes(dets.bboxes[some], sides, scores, first[some], count[some], sigma, min_iou)
        for some in _parts(count, _VOTES)
    ]
    return InstanceData(bboxes=torch.cat(boxes), scores=dets.scores, labels=dets.labels)


def _parts(count: Tensor, size: int) -> list[slice]:
    """Cut (n,) counts into runs whose sum is about ``size``."""
    part = (count.cumsum(0) - count).div(size, rounding_mode="floor")
    ends = [0, *part.unique_consecutive(return_counts=True)[1].cumsum(0).tolist()]
    return [slice(*both) for both in pairwise(ends)]


def _mean_boxes(
    boxes: Tensor, sides: Tensor, scores: Tensor, first: Tensor, count: Tensor, sigma: float, min_iou: float
) -> Tensor:
    """The means (n, 4) around boxes (n, 4); of each vote the ``count`` candidates from ``first`` on."""
    row = torch.arange(len(boxes), device=boxes.device).repeat_interleave(count)
    place = torch.arange(len(row), device=boxes.device) + (first - count.cumsum(0) + count)[row]
    iou = aligned_iou(boxes[row], sides[place])
    weight = torch.exp(-((1 - iou) ** 2) / sigma) * scores[place] * (iou > min_iou)
    votes = torch.cat([weight[:, None] * sides[place], weight[:, None]], 1)
    total = votes.new_zeros(len(boxes), 5).index_add_(0, row, votes)
    return (total[:, :4] / total[:, 4:]).where(total[:, 4:] > 0, boxes)  # a box without extent overlaps not even itself


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
