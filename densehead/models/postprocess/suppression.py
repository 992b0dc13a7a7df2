"""Suppression of candidates, and what it leaves of each image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from densehead.models.postprocess.candidates import Candidates
from densehead.ops import batched_nms

BoxesAt = Callable[[Tensor], Tensor]
FIRST_LOOK = 5  # times as many candidates as detections are asked for


def suppressed(found: Candidates, boxes_at: BoxesAt, cfg: Mapping, num_images: int) -> list[InstanceData]:
    """Return what suppression leaves of each image; ``found`` has the candidates image by image.

    A box is hard-suppressed by better ones alone. So what the best leave among themselves is the beginning of what all
    leave, and of most candidates not even the boxes are read.
    """
    limit, nms_cfg = _limit(cfg), cfg["nms"]
    every = torch.arange(len(found.scores), device=found.scores.device)
    if limit > 0 and nms_cfg and nms_cfg.get("type", "nms") == "nms":
        starts = starts_of(found.image_index, num_images)
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
    is_kept = is_large_enough(boxes, cfg)
    found, boxes = found.take(is_kept), boxes[is_kept]
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
    for one in by_image(found, torch.arange(len(boxes), device=boxes.device), boxes, num_images):
        dets, keep = batched_nms(one.bboxes, one.scores, one.labels, nms_cfg or None)
        one = one[keep[some]]
        one.scores = dets[some, -1]  # soft_nms lowers them
        results.append(one)
    return results


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
