"""What a network saw, as a picture."""

from __future__ import annotations

import numpy as np
import torch
from mmcv.transforms import Normalize
from torch import Tensor, nn


def as_picture(inputs: Tensor, preprocessor: nn.Module, normalisation: Normalize | None = None) -> np.ndarray:
    """Undo the normalisation and the order of channels of an image that a network is given.

    Pipelines load channels as BGR; an image whose channels are reversed is RGB. Values that are not finite become 0 or
    255.

    Args:
        inputs: (C, H, W) of a batch of the preprocessor.
        preprocessor: that made it, of :class:`densehead.models.DetDataPreprocessor`'s kind.
        normalisation: of the pipeline, where it normalises and not the data preprocessor.

    Returns:
        (H, W, 3) RGB of bytes.
    """
    image = inputs.detach().float().cpu().nan_to_num(0.0)
    if getattr(preprocessor, "_enable_normalize", False):
        image = image * preprocessor.std.cpu() + preprocessor.mean.cpu()
    is_rgb = bool(getattr(preprocessor, "_channel_conversion", False))
    if normalisation is not None:
        image = image.flip(0) if is_rgb else image
        mean, std = (
            torch.from_numpy(np.float32(one).reshape(-1, 1, 1)) for one in (normalisation.mean, normalisation.std)
        )
        image, is_rgb = image * std + mean, bool(normalisation.to_rgb)
    if image.shape[0] == 1:
        image = image.expand(3, -1, -1)
    image = image if is_rgb else image.flip(0)
    return image.round().clamp(0, 255).byte().permute(1, 2, 0).contiguous().numpy()
