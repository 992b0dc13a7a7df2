"""What a network saw, as a picture."""

from __future__ import annotations

import numpy as np
from torch import Tensor, nn


def shown_image(image: Tensor, preprocessor: nn.Module) -> np.ndarray:
    """Return (H, W, 3) RGB uint8 of an image (C, H, W) that a data preprocessor has normalised.

    Pipelines load channels as BGR; an image whose channels the preprocessor reverses is RGB. Values that are not finite
    become 0 or 255.
    """
    image = image.detach().float().nan_to_num(0.0)
    if preprocessor._enable_normalize:
        image = image * preprocessor.std + preprocessor.mean
    if not preprocessor._channel_conversion:
        image = image.flip(0)
    shown = image.round().clamp(0, 255).byte().permute(1, 2, 0).cpu().numpy()
    return np.ascontiguousarray(np.broadcast_to(shown, (*shown.shape[:2], 3)))
