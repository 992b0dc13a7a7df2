from densehead.models.backbones import ResNet
from densehead.models.data_preprocessor import BatchFixedSizePad, BatchSyncRandomResize, DetDataPreprocessor
from densehead.models.detectors import ATSS, FCOS, BaseDetector, SingleStageDetector
from densehead.models.necks import FPN

__all__ = [
    "ATSS",
    "FCOS",
    "FPN",
    "BaseDetector",
    "BatchFixedSizePad",
    "BatchSyncRandomResize",
    "DetDataPreprocessor",
    "ResNet",
    "SingleStageDetector",
]
