"""Necks: maps of a backbone to a pyramid."""

from densehead.models.necks.fpn import FPN

__all__ = ["FPN"]
