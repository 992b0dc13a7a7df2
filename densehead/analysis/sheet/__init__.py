"""Sheets for papers: an image, and which points of each pyramid level answer for which of its objects."""

from densehead.analysis.sheet.figure import draw_sheet
from densehead.analysis.sheet.marks import PanelMarks, panel_marks

__all__ = ["PanelMarks", "draw_sheet", "panel_marks"]
