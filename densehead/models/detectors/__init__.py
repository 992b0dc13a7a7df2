"""Detectors: backbone, neck and head as one trainable model."""

from densehead.models.detectors.atss import ATSS
from densehead.models.detectors.base import BaseDetector
from densehead.models.detectors.fcos import FCOS
from densehead.models.detectors.single_stage import SingleStageDetector

__all__ = ["ATSS", "FCOS", "BaseDetector", "SingleStageDetector"]
