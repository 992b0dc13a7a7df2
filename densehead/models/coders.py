"""Box coders: how a head's numbers and boxes turn into each other."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from densehead.ops import bbox2delta, bbox2distance, delta2bbox, distance2bbox
from densehead.registry import TASK_UTILS
from densehead.structures import box_tensor, horizontal_boxes


@TASK_UTILS.register_module()
class DistancePointBBoxCoder:
    """Boxes as distances from a point to the four sides (FCOS, equation 1).

    Args:
        clip_border: whether decoded boxes are clipped to the image.
        use_box_type: whether decoded boxes are mmdetection's ``HorizontalBoxes``; plain tensors where it is not
            installed.

    All methods take boxes of that class too.
    """

    encode_size = 4

    def __init__(self, clip_border: bool = True, use_box_type: bool = False) -> None:
        self.clip_border = clip_border
        self.use_box_type = use_box_type

    def encode(self, points: Tensor, gt_bboxes: Tensor, max_dis: float | None = None, eps: float = 0.1) -> Tensor:
        """Return the distances (..., 4) left, top, right, bottom from points (..., 2) to the sides of boxes (..., 4).

        Args:
            points: x, y in pixels.
            gt_bboxes: xyxy in pixels.
            max_dis: upper bound of a distance, below which it stays by ``eps``; none if None.
            eps: see ``max_dis``.
        """
        return bbox2distance(points, box_tensor(gt_bboxes), max_dis, eps)

    def decode(self, points: Tensor, pred_bboxes: Tensor, max_shape=None) -> Tensor:
        """Return boxes (..., 4) xyxy from distances (..., 4) at points (..., 2).

        Args:
            points: x, y in pixels.
            pred_bboxes: left, top, right, bottom in pixels.
            max_shape: height and width of the image (or one a box) to clip to.
        """
        boxes = distance2bbox(points, pred_bboxes, max_shape if self.clip_border else None)
        return horizontal_boxes(boxes) if self.use_box_type else boxes


@TASK_UTILS.register_module()
class DeltaXYWHBBoxCoder:
    """Boxes as shifts and log-scales of an anchor (R-CNN, appendix C).

    Args:
        target_means, target_stds: by which the four numbers are normalised.
        clip_border: whether decoded boxes are clipped to the image.
        add_ctr_clamp: whether the shift of the centre is limited to ``ctr_clamp``.
        ctr_clamp: pixels.
        use_box_type: see :class:`DistancePointBBoxCoder`.

    All methods take boxes of that class too.
    """

    encode_size = 4

    def __init__(
        self,
        target_means: Sequence[float] = (0.0, 0.0, 0.0, 0.0),
        target_stds: Sequence[float] = (1.0, 1.0, 1.0, 1.0),
        clip_border: bool = True,
        add_ctr_clamp: bool = False,
        ctr_clamp: float = 32,
        use_box_type: bool = False,
    ) -> None:
        self.means = tuple(target_means)
        self.stds = tuple(target_stds)
        self.clip_border = clip_border
        self.add_ctr_clamp = add_ctr_clamp
        self.ctr_clamp = ctr_clamp
        self.use_box_type = use_box_type

    def encode(self, bboxes: Tensor, gt_bboxes: Tensor) -> Tensor:
        """Return the deltas (..., 4) that turn anchors into boxes, both (..., 4) xyxy in pixels."""
        return bbox2delta(box_tensor(bboxes), box_tensor(gt_bboxes), self.means, self.stds)

    def decode(self, bboxes: Tensor, pred_bboxes: Tensor, max_shape=None, wh_ratio_clip: float = 16 / 1000) -> Tensor:
        """Return boxes (..., 4) xyxy from deltas (..., 4) at anchors (..., 4).

        Args:
            bboxes: anchors, xyxy in pixels.
            pred_bboxes: deltas.
            max_shape: height and width of the image (or one a box) to clip to.
            wh_ratio_clip: a decoded box is at most the inverse of this times its anchor.
        """
        boxes = delta2bbox(
            box_tensor(bboxes),
            pred_bboxes,
            self.means,
            self.stds,
            max_shape if self.clip_border else None,
            wh_ratio_clip,
            add_ctr_clamp=self.add_ctr_clamp,
            ctr_clamp=self.ctr_clamp,
        )
        return horizontal_boxes(boxes) if self.use_box_type else boxes
