"""What necks share: the check of what comes in, and the way from a coarse level to a finer one."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from densehead.typing import ConfigDict, LevelMaps


def check_channels(inputs: LevelMaps, in_channels: list[int]) -> None:
    """Raise a ValueError where a backbone's maps are not what ``neck.in_channels`` says."""
    channels = [level.shape[1] for level in inputs]
    if channels != in_channels:
        raise ValueError(
            f"neck.in_channels={in_channels}, but the backbone puts out {len(channels)} maps with {channels} "
            "channels: make neck.in_channels equal to that (or change backbone.out_indices)"
        )


def upsample(coarse: Tensor, fine: Tensor, cfg: ConfigDict) -> Tensor:
    """Return a coarse map as large as a fine one, or larger by the ``scale_factor`` of ``upsample_cfg``."""
    size = {} if "scale_factor" in cfg else {"size": fine.shape[2:]}
    return F.interpolate(coarse, **size, **cfg)
