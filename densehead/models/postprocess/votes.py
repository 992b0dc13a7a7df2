"""Votes of candidates on the boxes of detections (PAA)."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from densehead.models.postprocess.candidates import Candidates
from densehead.models.postprocess.suppression import starts_of
from densehead.ops import full_precision, pairwise_iou

VOTES = 1 << 20  # pairs of a detection and a candidate that are looked at together


@dataclass(frozen=True)
class ScoredBoxes:
    """All candidates of an image: ``boxes`` (M, 4) and their ``scores`` (M, C), 0 where a class is no candidate."""

    boxes: Tensor
    scores: Tensor


def scored_boxes(found: Candidates, table: Tensor, num_classes: int, num_images: int) -> list[ScoredBoxes]:
    """Return all candidates of each image, whose places have boxes (M, 4)."""
    scores = full_precision(found.scores).new_zeros(len(table), num_classes)
    scores[found.place, found.labels] = full_precision(found.scores)
    ends = pairwise(starts_of(found.place_image, num_images))
    return [ScoredBoxes(table[start:stop], scores[start:stop]) for start, stop in ends]


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
    size = max(VOTES // max(len(candidates.boxes), 1), 1)
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
