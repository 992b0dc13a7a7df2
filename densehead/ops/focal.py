"""The focal loss of class indices, compiled where mmcv has it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from densehead.ops.backend import mmcv_ops, mmcv_serves
from densehead.ops.boxes import full_precision


def sigmoid_focal_loss(logits: Tensor, labels: Tensor, gamma: float = 2.0, alpha: float = 0.25) -> Tensor:
    """Return the focal loss of each logit (Lin et al., ICCV 2017, eq. 5).

    Args:
        logits: (N, C); half-precision ones are computed in float32.
        labels: (N,) class indices; ``C`` means background.
        gamma: focusing exponent.
        alpha: weight of the positives; negatives weigh ``1 - alpha``.

    Returns:
        (N, C) losses.
    """
    logits = full_precision(logits)
    if logits.is_cuda and mmcv_serves(logits):  # mmcv has it for GPUs only
        return mmcv_ops().sigmoid_focal_loss(logits.contiguous(), labels.contiguous(), gamma, alpha, None, "none")
    # torchvision's takes 1 - (1 - p) for p, which is 0 for the small p that most negatives have; so it is written out.
    is_positive = labels[:, None] == torch.arange(logits.shape[1], device=labels.device)
    wrong = torch.where(is_positive, -logits, logits)  # the logit of the wrong answer
    balance = torch.where(is_positive, alpha, 1 - alpha).to(logits.dtype)
    return balance * wrong.sigmoid() ** gamma * F.softplus(wrong)
