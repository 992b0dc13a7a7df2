"""What the rules that go by IoU share."""

from __future__ import annotations

import torch
from torch import Tensor

from densehead.ops import aligned_iou, pairwise_iou
from densehead.registry import TASK_UTILS
from densehead.structures import Priors, Targets, box_tensor

REGIONS_AT_ONCE = 16


@TASK_UTILS.register_module()
class BboxOverlaps2D:
    """IoU of boxes in mmdetection's form, for configs that name it.

    Args:
        scale: must be 1.
        dtype: accepted for mmdetection's sake; boxes are float32 here.
    """

    def __init__(self, scale: float = 1.0, dtype: str | None = None) -> None:
        if scale != 1:
            raise ValueError(f"BboxOverlaps2D.scale must be 1, but got {scale}")

    def __call__(self, bboxes1: Tensor, bboxes2: Tensor, mode: str = "iou", is_aligned: bool = False) -> Tensor:
        """Return the IoU of boxes (n, 4) and (m, 4) xyxy: (n, m), or (n,) where aligned."""
        boxes = (box_tensor(one)[..., :4] for one in (bboxes1, bboxes2))
        return aligned_iou(*boxes, mode) if is_aligned else pairwise_iou(*boxes, mode)


def check_calculator(assigner: str, cfg: dict | None) -> None:
    """Refuse an ``iou_calculator`` that the closed forms do not hold for.

    Raises:
        ValueError: anything but the plain IoU.
    """
    if cfg is not None and str(cfg.get("type")).rpartition(".")[2] != "BboxOverlaps2D":
        raise ValueError(
            f"{assigner}.iou_calculator must be dict(type='BboxOverlaps2D'), but got {cfg}: the candidates are found "
            "by the geometry of the plain IoU"
        )


def ignored_priors(priors: Priors, targets: Targets, threshold: float, wrt_prior: bool = True) -> Tensor | None:
    """Return (B, P) bool, True where a prior lies in a region to ignore; None where no image has one.

    Args:
        priors: P priors with boxes.
        targets: of each image the regions.
        threshold: the share above which a prior is ignored; never if not positive.
        wrt_prior: whether the share is that of the prior that lies in the region, or of the region in the prior.
    """
    if threshold <= 0 or not targets.ignore_boxes.shape[1]:
        return None
    is_ignored = torch.zeros(targets.num_images, len(priors), dtype=torch.bool, device=priors.boxes.device)
    for start in range(0, targets.ignore_boxes.shape[1], REGIONS_AT_ONCE):
        some = slice(start, start + REGIONS_AT_ONCE)
        boxes, is_valid = targets.ignore_boxes[:, some], targets.ignore_is_valid[:, some]
        if wrt_prior:
            share = pairwise_iou(priors.boxes, boxes, "iof").transpose(-1, -2)  # (B, I, P)
        else:
            share = pairwise_iou(boxes, priors.boxes, "iof")
        is_ignored |= ((share > threshold) & is_valid[..., None]).any(1)
    return is_ignored
