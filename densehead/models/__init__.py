"""Models: detectors and what they are made of."""

from densehead.models.assigners import ATSSAssigner, FCOSAssigner, MaxIoUAssigner
from densehead.models.backbones import Res2Net, ResNet, ResNeXt, ShuffleNetV2
from densehead.models.coders import DeltaXYWHBBoxCoder, DistancePointBBoxCoder
from densehead.models.data_preprocessor import BatchFixedSizePad, BatchSyncRandomResize, DetDataPreprocessor
from densehead.models.detectors import (
    ATSS,
    FCOS,
    GFL,
    PAA,
    AutoAssign,
    BaseDetector,
    NanoDetPlus,
    SingleStageDetector,
    VFNet,
)
from densehead.models.ema import ExpMomentumEMA
from densehead.models.heads import (
    AnchorFreeHead,
    ATSSHead,
    DenseHead,
    FCOSHead,
    GFLHead,
    NanoDetPlusHead,
    PAAHead,
    SimpleConvHead,
)
from densehead.models.necks import FPN, GhostPAN
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
    "ExpMomentumEMA",
    "FCOSAssigner",
    "FCOSHead",
    "GFLHead",
    "GhostPAN",
    "MaxIoUAssigner",
    "MlvlPointGenerator",
    "NanoDetPlus",
    "NanoDetPlusHead",
    "PAAHead",
    "Res2Net",
    "ResNeXt",
    "ResNet",
    "ShuffleNetV2",
    "SimpleConvHead",
    "SingleStageDetector",
    "VFNet",
]
