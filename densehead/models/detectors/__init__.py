"""Detectors: backbone, neck and head as one trainable model."""

from densehead.models.detectors.base import BaseDetector
from densehead.models.detectors.named import ATSS, FCOS, GFL, PAA, AutoAssign, VFNet
from densehead.models.detectors.nanodet_plus import NanoDetPlus
from densehead.models.detectors.single_stage import SingleStageDetector

__all__ = ["ATSS", "FCOS", "GFL", "PAA", "AutoAssign", "BaseDetector", "NanoDetPlus", "SingleStageDetector", "VFNet"]
