"""Necks: maps of a backbone to a pyramid."""

from densehead.models.necks.fpn import FPN
from densehead.models.necks.ghost_pan import GhostPAN

__all__ = ["FPN", "GhostPAN"]
