"""Hooks of training and testing."""

from densehead.engine.hooks.assignment import AssignmentHook
from densehead.engine.hooks.checkpoint import CheckpointHook
from densehead.engine.hooks.checks import CheckpointCheckHook, NumClassCheckHook
from densehead.engine.hooks.losses import CheckInvalidLossHook
from densehead.engine.hooks.memory import HostMemoryHook
from densehead.engine.hooks.seeds import SeedHook
from densehead.engine.hooks.summary import TrainingSummaryHook
from densehead.engine.hooks.visualization import DetVisualizationHook

__all__ = [
    "AssignmentHook",
    "CheckInvalidLossHook",
    "CheckpointCheckHook",
    "CheckpointHook",
    "DetVisualizationHook",
    "HostMemoryHook",
    "NumClassCheckHook",
    "SeedHook",
    "TrainingSummaryHook",
]
