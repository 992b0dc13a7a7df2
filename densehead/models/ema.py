"""The mean of a model's weights over its training, for mmengine's ``EMAHook``."""

from __future__ import annotations

import math

import torch
from mmengine.model import ExponentialMovingAverage
from torch import Tensor, nn

from densehead.registry import MODELS


@MODELS.register_module()
class ExpMomentumEMA(ExponentialMovingAverage):
    """Exponential moving average that follows the model closely at first; name and keys are mmdetection's.

    In an update after ``steps`` others the mean moves by ``m`` of the way to the model, with
    ``m = momentum + (1 - momentum) * exp(-(1 + steps) / gamma)``: nearly 1 at the start, ``momentum`` in the end. The
    official NanoDet-Plus averages so, with a ``decay`` of ``1 - momentum``. In a config::

        custom_hooks = [dict(type="EMAHook", ema_type="ExpMomentumEMA", momentum=0.0002, update_buffers=True)]

    The mean is what is validated and what a checkpoint holds under ``state_dict``.

    Args:
        model: the model to be averaged.
        momentum: what is left of ``m`` in the end, in (0, 1).
        gamma: updates in which ``m`` falls to a third.
        interval: iterations between two updates.
        device: where the mean is kept; with the model if None.
        update_buffers: whether to average buffers too (the statistics of batch norms), and not to copy them.

    Raises:
        ValueError: a number out of its range.
    """

    def __init__(
        self,
        model: nn.Module,
        momentum: float = 0.0002,
        gamma: int = 2000,
        interval: int = 1,
        device: torch.device | None = None,
        update_buffers: bool = False,
    ) -> None:
        if not 0 < momentum < 1:
            raise ValueError(f"ExpMomentumEMA: momentum must lie between 0 and 1, but got {momentum}")
        if gamma <= 0:
            raise ValueError(f"ExpMomentumEMA: gamma must be a positive number of updates, but got {gamma}")
        super().__init__(model, momentum, interval, device, update_buffers)
        self.gamma = gamma

    def avg_func(self, averaged_param: Tensor, source_param: Tensor, steps: int) -> None:
        """Move one tensor of the mean, in place.

        Args:
            averaged_param: of the mean.
            source_param: of the model, of the same shape.
            steps: updates before this one.
        """
        momentum = self.momentum + (1 - self.momentum) * math.exp(-(1 + int(steps)) / self.gamma)
        averaged_param.lerp_(source_param, momentum)
