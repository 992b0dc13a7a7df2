"""Running a training: loop, hooks, checks, checkpoint files."""

from densehead.engine.files import AtomicBackend, find_last_checkpoint
from densehead.engine.hooks import (
    AssignmentHook,
    CheckInvalidLossHook,
    CheckpointCheckHook,
    CheckpointHook,
    DetVisualizationHook,
    HostMemoryHook,
    NumClassCheckHook,
    SeedHook,
    TrainingSummaryHook,
)
from densehead.engine.interrupt import TrainingStopped
from densehead.engine.loops import EpochBasedTrainLoop
from densehead.engine.runner import QuietRunner
from densehead.engine.sharding import FullyShardedDetector, FullyShardedRunner, FullyShardedStrategy
from densehead.engine.tta import DetTTAModel

__all__ = [
    "AssignmentHook",
    "AtomicBackend",
    "CheckInvalidLossHook",
    "CheckpointCheckHook",
    "CheckpointHook",
    "DetTTAModel",
    "DetVisualizationHook",
    "EpochBasedTrainLoop",
    "FullyShardedDetector",
    "FullyShardedRunner",
    "FullyShardedStrategy",
    "HostMemoryHook",
    "NumClassCheckHook",
    "QuietRunner",
    "SeedHook",
    "TrainingStopped",
    "TrainingSummaryHook",
    "find_last_checkpoint",
]
