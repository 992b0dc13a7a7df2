"""From level maps to detections."""

from densehead.models.postprocess.candidates import Candidates, find_classes, find_priors
from densehead.models.postprocess.detect import detect
from densehead.models.postprocess.votes import ScoredBoxes, vote_boxes

__all__ = ["Candidates", "ScoredBoxes", "detect", "find_classes", "find_priors", "vote_boxes"]
