"""Single-stage detectors under the names that mmdetection's configs give them; the head makes the difference."""

from __future__ import annotations

from densehead.models.detectors.single_stage import SingleStageDetector
from densehead.registry import MODELS


@MODELS.register_module()
class FCOS(SingleStageDetector):
    """A detector with an FCOSHead (Tian et al. 2019, https://arxiv.org/abs/1904.01355)."""


@MODELS.register_module()
class ATSS(SingleStageDetector):
    """A detector with an ATSSHead (Zhang et al. 2020, https://arxiv.org/abs/1912.02424)."""


@MODELS.register_module()
class GFL(SingleStageDetector):
    """A detector with a GFLHead (Li et al. 2020, https://arxiv.org/abs/2006.04388)."""


@MODELS.register_module()
class VFNet(SingleStageDetector):
    """A detector with a VFNetHead (Zhang et al. 2021, https://arxiv.org/abs/2008.13367)."""


@MODELS.register_module()
class PAA(SingleStageDetector):
    """A detector with a PAAHead (Kim and Lee 2020, https://arxiv.org/abs/2007.08103)."""


@MODELS.register_module()
class AutoAssign(SingleStageDetector):
    """A detector with an AutoAssignHead (Zhu et al. 2020, https://arxiv.org/abs/2007.03496)."""
