"""The losses that configs name. :mod:`.functional` has them as pure functions, element by element."""

from densehead.models.losses.base import Loss, weighted_reduction
from densehead.models.losses.cross_entropy import CrossEntropyLoss
from densehead.models.losses.dense import (
    ClassificationLoss,
    check_kind,
    classification_loss,
    flat_target,
    takes_quality,
)
from densehead.models.losses.focal import FocalFamily, FocalLoss
from densehead.models.losses.iou import (
    BoundedIoULoss,
    BoxLoss,
    CIoULoss,
    DIoULoss,
    EIoULoss,
    GIoULoss,
    IoULoss,
    SIoULoss,
)
from densehead.models.losses.quality import DistributionFocalLoss, QualityFocalLoss, VarifocalLoss
from densehead.models.losses.regression import L1Loss, MSELoss, SmoothL1Loss

__all__ = [
    "BoundedIoULoss",
    "BoxLoss",
    "CIoULoss",
    "ClassificationLoss",
    "CrossEntropyLoss",
    "DIoULoss",
    "DistributionFocalLoss",
    "EIoULoss",
    "FocalFamily",
    "FocalLoss",
    "GIoULoss",
    "IoULoss",
    "L1Loss",
    "Loss",
    "MSELoss",
    "QualityFocalLoss",
    "SIoULoss",
    "SmoothL1Loss",
    "VarifocalLoss",
    "check_kind",
    "classification_loss",
    "flat_target",
    "takes_quality",
    "weighted_reduction",
]
