"""Assigners: the rules that say which prior answers for which ground truth, one file a rule."""

from densehead.models.assigners.atss import ATSSAssigner
from densehead.models.assigners.base import AssignResult, BaseAssigner
from densehead.models.assigners.dynamic_soft_label import DynamicSoftLabelAssigner
from densehead.models.assigners.fcos import FCOSAssigner
from densehead.models.assigners.foreign import ForeignAssigner, build_assigner
from densehead.models.assigners.iou import BboxOverlaps2D
from densehead.models.assigners.max_iou import MaxIoUAssigner
from densehead.models.assigners.sim_ota import SimOTAAssigner
from densehead.models.assigners.task_aligned import TaskAlignedAssigner

__all__ = [
    "ATSSAssigner",
    "AssignResult",
    "BaseAssigner",
    "BboxOverlaps2D",
    "DynamicSoftLabelAssigner",
    "FCOSAssigner",
    "ForeignAssigner",
    "MaxIoUAssigner",
    "SimOTAAssigner",
    "TaskAlignedAssigner",
    "build_assigner",
]
