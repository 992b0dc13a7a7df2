"""The rules in plain loops, as their papers tell them: slow references.

A result is a list with an entry a prior: the ground truth, -1 for negative, -2 for ignored.
"""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

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


def _matched(costs: list[list[float]], counts: list[int], eligible: list[int], total: int) -> list[int]:
    """Every ground truth takes the priors of its lowest costs; a prior of several goes to the cheapest of all."""
    takers = {p: [] for p in eligible}
    for truth, row in enumerate(costs):
        possible = [p for p in eligible if math.isfinite(row[p])]
        for p in sorted(possible, key=lambda p: (row[p], p))[: counts[truth]]:
            takers[p].append(truth)
    result = [-1] * total
    for p, mine in takers.items():
        if len(mine) == 1:
            result[p] = mine[0]
        elif mine:
            result[p] = min(range(len(costs)), key=lambda truth: (costs[truth][p], truth))
    return result


def _inside(point, box) -> bool:
    return min(point[0] - box[0], point[1] - box[1], box[2] - point[0], box[3] - point[1]) > 0


def _dynamic(priors: Priors, targets: Targets, image: int, boxes: Tensor, topk: int, takes_part, cost) -> list[int]:
    valid = priors.valid_mask()
    valid = [True] * len(priors) if valid is None else valid[image].tolist()
    truths, boxes = targets.boxes[image, : targets.counts[image]].tolist(), boxes[image].tolist()
    eligible = [p for p in range(len(priors)) if valid[p] and any(takes_part(p, truth) for truth in truths)]
    costs, counts = [], []
    for truth, label in zip(truths, targets.labels[image].tolist()):
        ious = {p: iou(boxes[p], truth) for p in eligible}
        counts.append(max(1, int(sum(sorted(ious.values(), reverse=True)[:topk]))))
        costs.append([cost(p, truth, label, ious[p]) if p in ious else math.inf for p in range(len(priors))])
    result = _matched(costs, counts, eligible, len(priors))
    return [winner if v else -2 for winner, v in zip(result, valid)]


def sim_ota(
    priors: Priors, targets: Targets, image: int, boxes: Tensor, scores: Tensor, radius=2.5, topk=10, weights=(3.0, 1.0)
) -> list[int]:
    """Of probabilities ``scores`` (B, P, C)."""
    points, strides, scores = priors.points.tolist(), priors.strides.tolist(), scores[image].tolist()

    def is_near(p, truth):
        centre = ((truth[0] + truth[2]) / 2, (truth[1] + truth[3]) / 2)
        return max(abs(points[p][0] - centre[0]), abs(points[p][1] - centre[1])) < radius * strides[p]

    def cost(p, truth, label, overlap):
        classes = sum(-math.log(s if c == label else 1 - s) for c, s in enumerate(scores[p]))
        value = weights[1] * classes - weights[0] * math.log(overlap + 1e-7)
        if _inside(points[p], truth) and is_near(p, truth):
            return value
        return float(np.float32(value) + np.float32(1e5))  # what is left of the digits beside the constant

    return _dynamic(
        priors, targets, image, boxes, topk, lambda p, truth: _inside(points[p], truth) or is_near(p, truth), cost
    )


def dynamic_soft_label(
    priors: Priors, targets: Targets, image: int, boxes: Tensor, logits: Tensor, radius=3.0, topk=13, weight=3.0
) -> list[int]:
    """Of ``logits`` (B, P, C)."""
    points, strides, logits = priors.points.tolist(), priors.strides.tolist(), logits[image].tolist()

    def cost(p, truth, label, overlap):
        classes = 0.0
        for c, x in enumerate(logits[p]):
            score, target = 1 / (1 + math.exp(-x)), overlap if c == label else 0.0
            entropy = -target * math.log(score) - (1 - target) * math.log(1 - score)
            classes += entropy * (target - score) ** 2
        centre = ((truth[0] + truth[2]) / 2, (truth[1] + truth[3]) / 2)
        distance = math.dist(points[p], centre) / strides[p]
        far = math.inf if distance - radius > 38.5 else 10 ** (distance - radius)
        return classes - weight * math.log(overlap + 1e-7) + far

    return _dynamic(priors, targets, image, boxes, topk, lambda p, truth: _inside(points[p], truth), cost)


def task_aligned(
    priors: Priors, targets: Targets, image: int, boxes: Tensor, scores: Tensor, topk=13, alpha=1.0, beta=6.0
) -> list[int]:
    """Of probabilities ``scores`` (B, P, C)."""
    valid = priors.valid_mask()
    valid = [True] * len(priors) if valid is None else valid[image].tolist()
    points, boxes, scores = priors.points.tolist(), boxes[image].tolist(), scores[image].tolist()
    best, winner = [-1.0] * len(priors), [-1] * len(priors)
    truths = targets.boxes[image, : targets.counts[image]].tolist()
    for truth, (box, label) in enumerate(zip(truths, targets.labels[image].tolist())):
        ious = [iou(predicted, box) for predicted in boxes]
        aligned = {p: scores[p][label] ** alpha * ious[p] ** beta for p in range(len(priors)) if valid[p]}
        for p in sorted(aligned, key=lambda p: (-aligned[p], p))[:topk]:
            x, y = points[p]
            inside = min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 0.01
            if inside and aligned[p] > 0 and ious[p] > best[p]:
                best[p], winner[p] = ious[p], truth
    return [w if v else -2 for w, v in zip(winner, valid)]
