"""Models: detectors and what they are made of."""

from densehead.models.assigners import ATSSAssigner, FCOSAssigner, MaxIoUAssigner
from densehead.models.backbones import Res2Net, ResNet, ResNeXt
from densehead.models.coders import DeltaXYWHBBoxCoder, DistancePointBBoxCoder
from densehead.models.data_preprocessor import BatchFixedSizePad, BatchSyncRandomResize, DetDataPreprocessor
from densehead.models.detectors import ATSS, FCOS, GFL, PAA, AutoAssign, BaseDetector, SingleStageDetector, VFNet
from densehead.models.heads import AnchorFreeHead, ATSSHead, DenseHead, FCOSHead, GFLHead
from densehead.models.necks import FPN
from densehead.models.priors import AnchorGenerator, MlvlPointGenerator

__all__ = [
    "ATSS",
    "FCOS",
    "FPN",
    "GFL",
    "PAA",
    "ATSSAssigner",
    "ATSSHead",
    "AnchorFreeHead",
    "AnchorGenerator",
    "AutoAssign",
    "BaseDetector",
    "BatchFixedSizePad",
    "BatchSyncRandomResize",
    "DeltaXYWHBBoxCoder",
    "DenseHead",
    "DetDataPreprocessor",
    "DistancePointBBoxCoder",
    "FCOSAssigner",
    "FCOSHead",
    "GFLHead",
    "MaxIoUAssigner",
    "MlvlPointGenerator",
    "Res2Net",
    "ResNeXt",
    "ResNet",
    "SingleStageDetector",
    "VFNet",
]
