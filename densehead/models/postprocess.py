"""From level maps to detections: threshold, best of each level, boxes of the survivors only, suppression."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from densehead.ops import batched_nms, clip_boxes, full_precision, pairwise_iou
from densehead.structures import LevelTensor, Predictions, Priors, horizontal_boxes

if TYPE_CHECKING:
    from densehead.models.heads.base import DenseHead


BoxesAt = Callable[[Tensor], Tensor]
FIRST_LOOK = 5  # times as many candidates as detections are asked for
BLOCK = 64
_VOTES = 1 << 20  # pairs of a detection and a candidate that are looked at together


@dataclass(frozen=True)
class Candidates:
    """Detections before suppression, image by image: ``N`` classes of ``M`` priors, whose boxes they share.

    Attributes:
        image_index, labels, scores: (N,) each.
        place: (N,) which of the ``M`` priors.
        place_image, place_prior: (M,) the images, in order, and their priors.
    """

    image_index: Tensor
    place: Tensor
    labels: Tensor
    scores: Tensor
    place_image: Tensor
    place_prior: Tensor

    @property
    def prior_index(self) -> Tensor:
        """(N,) the priors."""
        return self.place_prior[self.place]

    def take(self, index: Tensor) -> Candidates:
        """Return those at (n,) or of a mask (N,)."""
        own = (one[index] for one in (self.image_index, self.place, self.labels, self.scores))
        return Candidates(*own, self.place_image, self.place_prior)


@dataclass(frozen=True)
class ScoredBoxes:
    """All candidates of an image: ``boxes`` (M, 4) and their ``scores`` (M, C), 0 where a class is no candidate."""

    boxes: Tensor
    scores: Tensor


def find_classes(head: DenseHead, predictions: Predictions, cfg: Mapping) -> Candidates:
    """Return the classes of priors whose own score is above ``score_thr``, of a level the ``nms_pre`` best of them."""
    image, prior, labels, scores = candidates(
        predictions["cls_logits"], cfg.get("score_thr", 0), cfg.get("nms_pre", -1), is_sigmoid=head.use_sigmoid_cls
    )
    image, order = image.sort(stable=True)
    prior, labels, scores = prior[order], labels[order], scores[order]
    if "quality_logits" in predictions:
        quality = predictions["quality_logits"].at(image, prior)[:, 0].float()
        scores = head.fuse_scores(scores, quality)
    return Candidates(image, torch.arange(len(image), device=image.device), labels, scores, image, prior)


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
    image, order = torch.cat(images).sort(stable=True)
    prior = torch.cat(places)[order]
    scores = predictions.scores_at(image, prior)
    if has_quality:
        scores = head.fuse_scores(scores, predictions["quality_logits"].at(image, prior).float())
    row, label = (scores > score_thr).nonzero(as_tuple=True)
    return Candidates(image[row], row, label, scores[row, label], image, prior)


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
    read = partial(_read_boxes, head, predictions, priors, image_metas, rescale=rescale)
    num_images = len(image_metas)
    if not with_nms or head.refines_detections:  # all boxes are wanted
        table = read(found.place_image, found.place_prior)
        found = found.take(_is_large_enough(table, cfg)[found.place])
        every = torch.arange(len(found.scores), device=table.device)
        if not with_nms:
            results = _by_image(found, every, table[found.place], num_images)
        else:
            results = _suppressed(found, lambda index: table[found.place[index]], cfg, num_images)
            voters = _scored_boxes(found, table, head.num_classes, num_images)
            results = [head.refine_detections(*both) for both in zip(results, voters, strict=True)]
    else:

        def boxes_at(index: Tensor) -> Tensor:
            return read(found.image_index[index], found.prior_index[index])

        results = _suppressed(found, boxes_at, cfg, num_images)
    if getattr(head.bbox_coder, "use_box_type", False):
        for result in results:
            result.bboxes = horizontal_boxes(result.bboxes)
    return results


def _limit(cfg: Mapping) -> int:
    """How many detections an image may have at most, -1 for any number."""
    limits = [limit for limit in (cfg.get("max_per_img", -1), (cfg["nms"] or {}).get("max_num", -1)) if limit > 0]
    return min(limits, default=-1)


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


def candidates(
    logits: LevelTensor, score_thr: float, nms_pre: int, *, is_sigmoid: bool
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the classes of priors that score above ``score_thr``, of each level and image the ``nms_pre`` best.

    Sigmoid scores are compared before the sigmoid, which is then taken of the survivors only.

    Args:
        logits: C numbers a prior, or, where the scores are a softmax, C + 1 with the background last.
        score_thr: in [0, 1].
        nms_pre: all if not positive.
        is_sigmoid: which of the two.

    Returns:
        (N,) each, level by level: image, prior, class and score.
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
    return torch.cat(images), torch.cat(places), torch.cat(labels), scores


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


def _is_large_enough(boxes: Tensor, cfg: Mapping) -> Tensor:
    """Return (n,) bool: which boxes are larger than ``min_bbox_size``."""
    smallest = cfg.get("min_bbox_size", -1)
    return (boxes[:, 2:] - boxes[:, :2] > smallest).all(-1) | (smallest < 0)


def _scored_boxes(found: Candidates, table: Tensor, num_classes: int, num_images: int) -> list[ScoredBoxes]:
    """Return all candidates of each image, whose places have boxes (M, 4)."""
    scores = full_precision(found.scores).new_zeros(len(table), num_classes)
    scores[found.place, found.labels] = full_precision(found.scores)
    ends = pairwise(_starts(found.place_image, num_images))
    return [ScoredBoxes(table[start:stop], scores[start:stop]) for start, stop in ends]


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
    is_large_enough = _is_large_enough(boxes, cfg)
    found, boxes = found.take(is_large_enough), boxes[is_large_enough]
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
    dets: InstanceData, candidates: ScoredBoxes, *, sigma: float = 0.025, min_iou: float = 0.01
) -> InstanceData:
    """Return detections whose boxes are means of the candidates of their class (PAA, equation 9), class by class.

    A candidate of score ``s`` that overlaps a detection's box by ``u`` counts ``s * exp(-(1 - u)^2 / sigma)`` in that
    detection's mean. Scores and labels stay.

    Args:
        dets: ``bboxes``, ``scores``, ``labels`` of what suppression left.
        candidates: all candidates of the image.
        sigma: how fast the weight falls with the overlap.
        min_iou: candidates that overlap less do not count.
    """
    dets = dets[dets.labels.argsort(stable=True)]
    size = max(_VOTES // max(len(candidates.boxes), 1), 1)
    parts = zip(dets.bboxes.split(size), dets.labels.split(size), strict=True)
    boxes = torch.cat([_mean_boxes(*part, candidates, sigma, min_iou) for part in parts])
    return InstanceData(bboxes=boxes, scores=dets.scores, labels=dets.labels)


def _mean_boxes(boxes: Tensor, labels: Tensor, candidates: ScoredBoxes, sigma: float, min_iou: float) -> Tensor:
    iou = pairwise_iou(boxes, candidates.boxes)  # (n, M)
    det, voter = (iou > min_iou).nonzero(as_tuple=True)
    weight = torch.exp(-((1 - iou[det, voter]) ** 2) / sigma) * candidates.scores[voter, labels[det]]
    # one by one rather than as a matrix product, which TF32 and autocast round by half a pixel
    votes = torch.cat([full_precision(candidates.boxes)[voter], torch.ones_like(weight)[:, None]], 1) * weight[:, None]
    total = votes.new_zeros(len(boxes), 5).index_add_(0, det, votes)
    return (total[:, :4] / total[:, 4:]).where(total[:, 4:] > 0, boxes)  # a box without extent overlaps not even itself


def _logit(score: float) -> float:
    if score <= 0:
        return -math.inf
    return math.inf if score >= 1 else math.log(score / (1 - score))


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
