"""What makes losses go wrong, on purpose."""

from __future__ import annotations

import torch
from mmengine.hooks import Hook

from densehead.models.losses import GIoULoss
from densehead.registry import HOOKS, MODELS


@MODELS.register_module(force=True)
class LossThatFearsAnAspect(GIoULoss):
    """GIoU loss that is NaN for boxes of one aspect (width by height)."""

    def __init__(self, aspect: float) -> None:
        super().__init__()
        self.aspect = aspect

    def per_element(self, pred, target):
        """Return the loss of each box."""
        width, height = (target[:, 2:] - target[:, :2]).unbind(1)
        is_feared = (width / height - self.aspect).abs() < 1e-4
        return super().per_element(pred, target).masked_fill(is_feared, float("nan"))


@HOOKS.register_module(force=True)
class PoisonHook(Hook):
    """Spoils a weight, an image or an annotation before a step.

    Args:
        what: ``'weight'``, ``'image'`` or ``'box'``.
        iteration: counted from 1.
        image: of the batch.
    """

    def __init__(self, what: str, iteration: int = 3, image: int = 1) -> None:
        self.what = what
        self.iteration = iteration
        self.image = image
        self.weights: dict[str, torch.Tensor] = {}
        self.path: str | None = None

    def before_train_iter(self, runner, batch_idx: int, data_batch=None) -> None:
        """Spoil it, and note the weights before the step and the image."""
        if runner.iter + 1 != self.iteration:
            return
        sample = data_batch["data_samples"][self.image]
        self.path = sample.img_path
        model = getattr(runner.model, "module", runner.model)
        if self.what == "weight":
            model.bbox_head.conv_reg.weight.data[0, 0, 0, 0] = float("nan")
        elif self.what == "image":
            images = list(data_batch["inputs"])
            images[self.image] = images[self.image].float().clone()
            images[self.image][0, 30, 20] = float("nan")
            data_batch["inputs"] = images
        elif self.what == "box":
            sample.gt_instances.bboxes[0, 2] = float("inf")
        self.weights = {name: value.clone() for name, value in model.state_dict().items()}
