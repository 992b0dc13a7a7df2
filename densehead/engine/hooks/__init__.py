"""Hooks of training and testing."""

from densehead.engine.hooks.checks import CheckInvalidLossHook, CheckpointCheckHook, NumClassCheckHook
from densehead.engine.hooks.memory import HostMemoryHook
from densehead.engine.hooks.seeds import SeedHook
from densehead.engine.hooks.summary import TrainingSummaryHook
from densehead.engine.hooks.visualization import DetVisualizationHook

__all__ = [
    "CheckInvalidLossHook",
    "CheckpointCheckHook",
    "DetVisualizationHook",
    "HostMemoryHook",
    "NumClassCheckHook",
    "SeedHook",
    "TrainingSummaryHook",
]
