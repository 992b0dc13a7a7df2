"""Assigners: the rules that say which prior answers for which ground truth, one file a rule."""

from densehead.models.assigners.atss import ATSSAssigner
from densehead.models.assigners.base import AssignResult, BaseAssigner
from densehead.models.assigners.fcos import FCOSAssigner
from densehead.models.assigners.iou import BboxOverlaps2D
from densehead.models.assigners.max_iou import MaxIoUAssigner

__all__ = ["ATSSAssigner", "AssignResult", "BaseAssigner", "BboxOverlaps2D", "FCOSAssigner", "MaxIoUAssigner"]
