"""The star of VFNet (https://arxiv.org/abs/2008.13367, section 4.3): nine points that stand for a box."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from densehead.ops import deform_conv2d


class StarConv(nn.Module):
    """A 3 x 3 convolution whose nine taps lie where it is told (deformable, v1).

    Args:
        in_channels, out_channels: of the convolution.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, 3, 3))
        nn.init.kaiming_uniform_(self.weight, nonlinearity="relu")

    def forward(self, x: Tensor, offset: Tensor) -> Tensor:
        """Convolve (B, C_in, h, w) at displacements (B, 18, h, w) from the regular taps; in the type of ``x``."""
        return deform_conv2d(x, offset, self.weight, padding=1).to(x.dtype)


def star_offsets(ltrb: Tensor) -> Tensor:
    """Return the displacements that put the taps of a 3 x 3 convolution on a point and around its box.

    The other eight lie on the box's corners and where the lines through the point, upright and level, meet its sides.

    Args:
        ltrb: (B, 4, h, w) distances from the point to the sides, in cells of the map.

    Returns:
        (B, 18, h, w) in cells: y before x, tap by tap.
    """
    left, top, right, bottom = ltrb.unbind(1)
    middle = torch.zeros_like(left)
    y = torch.stack((1 - top, middle, bottom - 1), 1)
    x = torch.stack((1 - left, middle, right - 1), 1)
    return torch.stack((y[:, :, None].expand(-1, -1, 3, -1, -1), x[:, None].expand(-1, 3, -1, -1, -1)), 3).flatten(1, 3)
