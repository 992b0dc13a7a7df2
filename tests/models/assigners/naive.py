"""The rules in plain loops, as their papers tell them: slow references.

A result is a list with an entry a prior: the ground truth, -1 for negative, -2 for ignored.
"""

from __future__ import annotations

import math

from densehead.structures import Priors, Targets

Box = tuple[float, float, float, float]


def iou(a: Box, b: Box) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    both = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / max(union, 1e-6)


def fcos(priors: Priors, targets: Targets, image: int, ranges, radius: float | None = None) -> list[int]:
    result = []
    for (x, y), stride, level in zip(priors.points.tolist(), priors.strides.tolist(), priors.level_index.tolist()):
        smallest, winner = math.inf, -1
        for truth, (x1, y1, x2, y2) in enumerate(targets.boxes[image, : targets.counts[image]].tolist()):
            sides = (x - x1, y - y1, x2 - x, y2 - y)
            near = min(sides) > 0
            if radius is not None:
                cx, cy, reach = (x1 + x2) / 2, (y1 + y2) / 2, radius * stride
                near = near and abs(x - cx) < reach and abs(y - cy) < reach
            area = (x2 - x1) * (y2 - y1)
            if near and ranges[level][0] <= max(sides) <= ranges[level][1] and area < smallest:
                smallest, winner = area, truth
        result.append(winner)
    return result


def atss(priors: Priors, targets: Targets, image: int, topk: int) -> list[int]:
    valid = priors.valid_mask()
    valid = [True] * len(priors) if valid is None else valid[image].tolist()
    points, boxes, levels = priors.points.tolist(), priors.boxes.tolist(), priors.level_index.tolist()
    best, winner = [-1.0] * len(priors), [-1] * len(priors)
    for truth, box in enumerate(targets.boxes[image, : targets.counts[image]].tolist()):
        cx, cy = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        candidates = []
        for level in range(priors.num_levels):
            mine = [p for p in range(len(priors)) if levels[p] == level and valid[p]]
            mine.sort(key=lambda p: (math.dist(points[p], (cx, cy)), p))
            candidates += mine[:topk]
        ious = [iou(boxes[p], box) for p in candidates]
        mean = sum(ious) / len(ious)
        std = math.sqrt(sum((value - mean) ** 2 for value in ious) / max(len(ious) - 1, 1))
        for p, value in zip(candidates, ious):
            x, y = points[p]
            inside = min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 0.01
            if value >= mean + std and inside and value > best[p]:
                best[p], winner[p] = value, truth
    return [w if v else -2 for w, v in zip(winner, valid)]


def max_iou(priors: Priors, targets: Targets, image: int, positive: float, negative: float, lowest: float) -> list[int]:
    valid = priors.valid_mask()
    valid = [True] * len(priors) if valid is None else valid[image].tolist()
    truths, boxes = targets.boxes[image, : targets.counts[image]].tolist(), priors.boxes.tolist()
    if not truths:
        return [-1 if v else -2 for v in valid]
    table = [[iou(prior, truth) if v else -1.0 for prior, v in zip(boxes, valid)] for truth in truths]
    result = []
    for column in zip(*table):
        high = max(column)
        result.append(column.index(high) if high >= positive else -1 if 0 <= high < negative else -2)
    for truth, row in enumerate(table):
        if max(row) >= lowest and max(row) > 0:
            result = [truth if value == max(row) else old for value, old in zip(row, result)]
    return result
