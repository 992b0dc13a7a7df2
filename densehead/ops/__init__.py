"""The one door to compiled operators, and pure functions of boxes.

:func:`backend` says which library computes; everything here gives the same results with both.
"""

from densehead.ops.backend import backend, use_backend
from densehead.ops.boxes import (
    aligned_iou,
    bbox2delta,
    bbox2distance,
    box_area,
    clip_boxes,
    delta2bbox,
    distance2bbox,
    full_precision,
    pairwise_iou,
)
from densehead.ops.compiled import (
    compiled_focal_background,
    compiled_joint_background,
    compiled_losses,
)
from densehead.ops.constants import constant
from densehead.ops.deform_conv import DeformConv2dPack, ModulatedDeformConv2dPack, deform_conv2d
from densehead.ops.focal import sigmoid_focal_loss
from densehead.ops.fused import fused_kernels
from densehead.ops.nms import batched_nms, nms, soft_nms
from densehead.ops.reduce import on_this_rank, reduce_mean

__all__ = [
    "DeformConv2dPack",
    "ModulatedDeformConv2dPack",
    "aligned_iou",
    "backend",
    "batched_nms",
    "bbox2delta",
    "bbox2distance",
    "box_area",
    "clip_boxes",
    "compiled_focal_background",
    "compiled_joint_background",
    "compiled_losses",
    "constant",
    "deform_conv2d",
    "delta2bbox",
    "distance2bbox",
    "full_precision",
    "fused_kernels",
    "nms",
    "on_this_rank",
    "pairwise_iou",
    "reduce_mean",
    "sigmoid_focal_loss",
    "soft_nms",
    "use_backend",
]
