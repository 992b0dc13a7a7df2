"""FCOS (Tian et al. 2019, https://arxiv.org/abs/1904.01355)."""

from __future__ import annotations

from densehead.models.detectors.single_stage import SingleStageDetector
from densehead.registry import MODELS


@MODELS.register_module()
class FCOS(SingleStageDetector):
    """A single-stage detector, under the name that FCOS's configs give it."""
