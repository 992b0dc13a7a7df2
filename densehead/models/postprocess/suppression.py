"""Suppression of candidates, and what it leaves of each image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from densehead.models.postprocess.candidates import Candidates
from densehead.ops import batched_nms, full_precision

BoxesAt = Callable[[Tensor], Tensor]
FIRST_LOOK = 5  # times as many candidates as detections are asked for


def suppressed(found: Candidates, boxes_at: BoxesAt, cfg: Mapping, num_images: int) -> list[InstanceData]:
    """Return what suppression leaves of each image; ``found`` has the candidates image by image."""
    nms_cfg, limit = dict(cfg["nms"] or {}), _limit(cfg)
    is_hard = bool(nms_cfg) and nms_cfg.get("type", "nms") == "nms"
    if is_hard and limit > 0 and found.scores.device.type == "cpu":
        return _look_by_look(found, boxes_at, cfg, num_images)
    every = torch.arange(len(found.scores), device=found.scores.device)
    boxes = boxes_at(every)
    index = is_large_enough(boxes, cfg).nonzero().squeeze(1)
    if nms_cfg and limit > 0:
        nms_cfg["max_num"] = limit
    results = []
    for one in by_image(found, index, boxes[index], num_images):
        dets, keep = batched_nms(one.bboxes, one.scores, one.labels, nms_cfg or None)
        some = slice(limit if limit > 0 else None)
        one = one[keep[some]]
        one.scores = dets[some, -1]  # soft_nms lowers them
        results.append(one)
    return results


def _look_by_look(found: Candidates, boxes_at: BoxesAt, cfg: Mapping, num_images: int) -> list[InstanceData]:
    """Suppress the best candidates of all images, then what has stayed together with the next best, and so on.

    A box is hard-suppressed by better ones alone, so what stays of the best stays. Most candidates are never looked at,
    and not even their boxes are read.
    """
    limit, count = _limit(cfg), FIRST_LOOK * _limit(cfg)
    ranges = list(pairwise(starts_of(found.image_index, num_images)))
    bounds = [torch.inf] * num_images  # scores from which on candidates have been looked at
    index, boxes = found.image_index[:0], full_precision(found.scores).new_zeros(0, 4)
    results = [index] * num_images  # positions in index and boxes, the best first
    while True:
        news = []
        for image, (start, stop) in enumerate(ranges):
            if len(results[image]) < limit and bounds[image] > -torch.inf:
                some, bounds[image] = _next_best(found.scores[start:stop], count, bounds[image])
                news.append(some + start)
        if not news:
            break
        new = torch.cat(news)
        new_boxes = boxes_at(new)
        is_kept = is_large_enough(new_boxes, cfg)
        stays = torch.cat(results)
        index, boxes = torch.cat([index[stays], new[is_kept]]), torch.cat([boxes[stays], new_boxes[is_kept]])
        keep = _hard_nms(found.take(index), boxes, cfg["nms"])
        image_index = found.image_index[index][keep]
        results = [keep[image_index == image][:limit] for image in range(num_images)]
        count += max(FIRST_LOOK * limit, count // 4)
    scores, labels = found.scores[index], found.labels[index]
    return [InstanceData(bboxes=boxes[mine], scores=scores[mine], labels=labels[mine]) for mine in results]


def _next_best(scores: Tensor, count: int, bound: float) -> tuple[Tensor, float]:
    """Return which of the ``count`` best scores are below a bound, and the bound of those that are left.

    Scores that are the same come together, so that of them the first one counts.
    """
    least = scores.topk(count).values[-1].item() if len(scores) > count else -torch.inf
    return ((scores >= least) & (scores < bound)).nonzero().squeeze(1), least


def _hard_nms(found: Candidates, boxes: Tensor, nms_cfg: Mapping) -> Tensor:
    """Return (k,) which candidates stay, of all images in one go, the best first."""
    nms_cfg, groups = dict(nms_cfg), found.image_index
    nms_cfg.pop("max_num", None)
    if not nms_cfg.pop("class_agnostic", False) and len(boxes):
        groups = groups * (found.labels.max() + 1) + found.labels
    return batched_nms(boxes, found.scores, groups, nms_cfg)[1]


def _limit(cfg: Mapping) -> int:
    """How many detections an image may have at most, -1 for any number."""
    limits = [limit for limit in (cfg.get("max_per_img", -1), (cfg["nms"] or {}).get("max_num", -1)) if limit > 0]
    return min(limits, default=-1)


def is_large_enough(boxes: Tensor, cfg: Mapping) -> Tensor:
    """Return (n,) bool: which boxes are larger than ``min_bbox_size``."""
    smallest = cfg.get("min_bbox_size", -1)
    return (boxes[:, 2:] - boxes[:, :2] > smallest).all(-1) | (smallest < 0)


def by_image(found: Candidates, index: Tensor, boxes: Tensor, num_images: int) -> list[InstanceData]:
    """Return of each image the candidates at ``index`` (n,), image by image, whose boxes are (n, 4)."""
    some = found.take(index)
    return [
        InstanceData(bboxes=boxes[start:stop], scores=some.scores[start:stop], labels=some.labels[start:stop])
        for start, stop in pairwise(starts_of(some.image_index, num_images))
    ]


def starts_of(image_index: Tensor, num_images: int) -> list[int]:
    """Where in (N,) image numbers, in order, each image begins, and the end."""
    return torch.searchsorted(image_index, torch.arange(num_images + 1, device=image_index.device)).tolist()
