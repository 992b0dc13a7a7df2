"""ATSS (Zhang et al. 2020, https://arxiv.org/abs/1912.02424)."""

from __future__ import annotations

from densehead.models.detectors.single_stage import SingleStageDetector
from densehead.registry import MODELS


@MODELS.register_module()
class ATSS(SingleStageDetector):
    """A single-stage detector, under the name that ATSS's configs give it."""
