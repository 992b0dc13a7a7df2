"""Heads, one file each; what they share is in ``base``."""

from densehead.models.heads.anchor_free import AnchorFreeHead
from densehead.models.heads.atss import ATSSHead
from densehead.models.heads.base import DenseHead
from densehead.models.heads.fcos import FCOSHead
from densehead.models.heads.gfl import GFLHead
from densehead.models.heads.towers import NormedConv2d

__all__ = ["ATSSHead", "AnchorFreeHead", "DenseHead", "FCOSHead", "GFLHead", "NormedConv2d"]
