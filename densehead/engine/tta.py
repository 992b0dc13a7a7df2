"""Test-time augmentation: detections of several views of an image, brought together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseTTAModel
from mmengine.structures import InstanceData
from torch import Tensor

from densehead.ops import batched_nms
from densehead.registry import MODELS
from densehead.structures import DetDataSample


@MODELS.register_module()
class DetTTAModel(BaseTTAModel):
    """Runs a detector on flipped and resized views of an image and joins the detections by NMS.

    Args:
        tta_cfg: ``nms``, a config of :func:`densehead.ops.batched_nms`, and ``max_per_img``, the most detections of an
            image.
        module: config of the detector.
        **kwargs: of :class:`mmengine.model.BaseTTAModel`.

    Raises:
        ValueError: ``tta_cfg`` lacks one of its keys.
    """

    def __init__(self, tta_cfg: dict | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        absent = {"nms", "max_per_img"} - set(tta_cfg or ())
        if absent:
            raise ValueError(
                f"tta_model.tta_cfg lacks {', '.join(sorted(absent))}; for example "
                "dict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=100)"
            )
        self.tta_cfg = tta_cfg

    def merge_preds(self, data_samples_list: Sequence[Sequence[DetDataSample]]) -> list[DetDataSample]:
        """Return one sample an image with the joined detections, the first view that is not flipped.

        Args:
            data_samples_list: of each image its views.
        """
        return [self._merge(views) for views in data_samples_list]

    def _merge(self, views: Sequence[DetDataSample]) -> DetDataSample:
        found = [view.pred_instances for view in views]
        boxes = torch.cat([unflipped(one.bboxes, view.metainfo) for one, view in zip(found, views, strict=True)])
        scores = torch.cat([one.scores for one in found])
        labels = torch.cat([one.labels for one in found])
        dets, keep = batched_nms(boxes, scores, labels, self.tta_cfg["nms"])
        limit = self.tta_cfg["max_per_img"]
        # the truth of a flipped view may be flipped too, and metrics and pictures want it as it is
        merged = min(views, key=lambda view: bool(view.metainfo.get("flip", False)))
        merged.pred_instances = InstanceData(
            bboxes=dets[:limit, :4], scores=dets[:limit, 4], labels=labels[keep[:limit]]
        )
        return merged


def unflipped(boxes: Tensor, meta: dict) -> Tensor:
    """Return boxes (n, 4) of a flipped view in the original image; both in pixels of the original's size."""
    if not meta.get("flip", False):
        return boxes
    height, width = meta["ori_shape"][:2]
    direction = meta["flip_direction"]
    x1, y1, x2, y2 = boxes.unbind(-1)
    if direction in ("horizontal", "diagonal"):
        x1, x2 = width - x2, width - x1
    if direction in ("vertical", "diagonal"):
        y1, y2 = height - y2, height - y1
    return torch.stack((x1, y1, x2, y2), -1)
