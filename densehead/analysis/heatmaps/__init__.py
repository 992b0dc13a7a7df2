"""What the levels of a detector respond to, as pictures."""

from densehead.analysis.heatmaps.maps import Level, read_levels
from densehead.analysis.heatmaps.plots import draw_heatmaps

__all__ = ["Level", "draw_heatmaps", "read_levels"]
