"""The four nouns (priors, targets, predictions, assignment) and the sample that travels at the border."""

from densehead.structures.assignment import IGNORED, NEGATIVE, Assignment, Positives
from densehead.structures.boxes import box_tensor, horizontal_boxes
from densehead.structures.det_data_sample import DetDataSample
from densehead.structures.level_tensor import LevelTensor, Share
from densehead.structures.predictions import Predictions
from densehead.structures.priors import Grid, Priors
from densehead.structures.targets import Targets, check_boxes, check_instances, check_labels

__all__ = [
    "IGNORED",
    "NEGATIVE",
    "Assignment",
    "DetDataSample",
    "Grid",
    "LevelTensor",
    "Positives",
    "Predictions",
    "Priors",
    "Share",
    "Targets",
    "box_tensor",
    "check_boxes",
    "check_instances",
    "check_labels",
    "horizontal_boxes",
]
