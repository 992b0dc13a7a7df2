"""Heads, one file each; what they share is in ``base``."""

from densehead.models.heads.anchor_free import AnchorFreeHead
from densehead.models.heads.atss import ATSSHead
from densehead.models.heads.autoassign import AutoAssignHead
from densehead.models.heads.base import DenseHead
from densehead.models.heads.center_prior import CenterPrior
from densehead.models.heads.fcos import FCOSHead
from densehead.models.heads.gfl import GFLHead
from densehead.models.heads.nanodet_plus import NanoDetPlusHead
from densehead.models.heads.paa import PAAHead
from densehead.models.heads.simple_conv import SimpleConvHead
from densehead.models.heads.towers import NormedConv2d
from densehead.models.heads.vfnet import VFNetHead

__all__ = [
    "ATSSHead",
    "AnchorFreeHead",
    "AutoAssignHead",
    "CenterPrior",
    "DenseHead",
    "FCOSHead",
    "GFLHead",
    "NanoDetPlusHead",
    "NormedConv2d",
    "PAAHead",
    "SimpleConvHead",
    "VFNetHead",
]
