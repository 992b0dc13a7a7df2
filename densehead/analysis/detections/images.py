"""How well each image went."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from densehead.analysis.detections.matching import Matches
from densehead.evaluation.boxes import Boxes


@dataclass(frozen=True)
class ImageScores:
    """What was counted in each of ``N`` images: ``right`` and ``wrong`` detections, ``missed`` objects, (N,) each."""

    right: np.ndarray
    wrong: np.ndarray
    missed: np.ndarray

    @property
    def f1(self) -> np.ndarray:
        """(N,) 2 right / (2 right + wrong + missed); NaN of an image without objects in which nothing is detected."""
        total = 2 * self.right + self.wrong + self.missed
        return np.divide(2 * self.right, total, out=np.full(len(total), np.nan), where=total > 0)

    def worst(self, count: int) -> np.ndarray:
        """Return the indices of the images of the lowest F1 below 1, of equal ones those with more errors."""
        order = np.lexsort((-(self.wrong + self.missed), self.f1))
        return order[self.f1[order] < 1][:count]

    def best(self, count: int) -> np.ndarray:
        """Return the indices of the images of the highest F1, of equal ones those with more objects."""
        order = np.lexsort((-self.right, -self.f1))
        return order[self.f1[order] > 0][:count]


def score_images(
    detections: Boxes, truth: Boxes, matches: Matches, *, num_images: int, score_thr: float
) -> ImageScores:
    """Count in each image what is right, wrong and missed among the detections of ``score_thr`` or more.

    Args:
        detections: with scores.
        truth: with what is ignored.
        matches: who found whom; a detection does not lose its object when those of lower scores are left out.
        num_images: ``N``.
        score_thr: lowest score of a detection that counts.
    """
    is_kept = detections.scores >= score_thr
    is_found = np.append(is_kept, False)[matches.det_of_gt]
    where = (
        detections.images[is_kept & matches.is_right],
        detections.images[is_kept & matches.is_wrong],
        truth.images[~is_found & ~truth.ignored],
    )
    return ImageScores(*(np.bincount(images, minlength=num_images) for images in where))
