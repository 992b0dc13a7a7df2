"""Pictures of truth and detections, and of how a training went."""

from densehead.visualization.drawing import Style
from densehead.visualization.local_visualizer import DetLocalVisualizer
from densehead.visualization.palette import PALETTE, class_colors
from densehead.visualization.plots import SHEET_STYLE, contact_sheet, read_scalars, training_curves

__all__ = [
    "PALETTE",
    "SHEET_STYLE",
    "DetLocalVisualizer",
    "Style",
    "class_colors",
    "contact_sheet",
    "read_scalars",
    "training_curves",
]
