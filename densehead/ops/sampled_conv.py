"""Deformable convolution in PyTorch's own operators: on a CPU it trains several times as fast as the compiled kernels.

Reading a map between its places is a weighted sum of four rows of a table, which is what ``embedding_bag`` computes,
with gradients to rows and weights; the convolution that is left is a matrix product. The kernels of torchvision and
mmcv work a channel at a time instead, which a GPU hides and a CPU does not. The rows that were read are kept for
the backward pass: kh * kw * C_in numbers a place.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from densehead.version import parse_version

IntPair = tuple[int, int]
# the embedding_bag of older versions fails where the shares need a gradient and the table does not
_TABLES_MAY_BE_FIXED = parse_version(torch.__version__) >= (2, 6)


def sampled_conv2d(
    x: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    mask: Tensor | None,
    stride: IntPair,
    padding: IntPair,
    dilation: IntPair,
    groups: int,
    deform_groups: int,
) -> Tensor:
    """Convolve at displaced places; arguments as of :func:`densehead.ops.deform_conv2d`, all of one type."""
    batch, channels = x.shape[:2]
    out_channels, _, *kernel = weight.shape
    height, width = offset.shape[-2:]
    taps = kernel[0] * kernel[1]
    y, x_ = _places(offset, kernel, stride, padding, dilation, deform_groups)
    index, share = _corners(y, x_, x.shape[-2:])
    if mask is not None:
        share = share * mask.unflatten(1, (deform_groups, -1)).permute(0, 1, 3, 4, 2)[..., None]
    table = x.unflatten(1, (deform_groups, -1)).permute(0, 1, 3, 4, 2).flatten(0, 3)  # a row a place and part
    if not _TABLES_MAY_BE_FIXED and share.requires_grad and not table.requires_grad:
        table = table.detach().requires_grad_()
    read = F.embedding_bag(index.flatten(0, -2), table, mode="sum", per_sample_weights=share.flatten(0, -2))
    read = read.view(batch, deform_groups, height * width, taps, channels // deform_groups).permute(0, 2, 3, 1, 4)
    rows = read.reshape(batch * height * width, taps, groups, channels // groups).permute(2, 0, 1, 3).flatten(2)
    matrix = weight.unflatten(0, (groups, -1)).permute(0, 3, 4, 2, 1).flatten(1, 3)  # taps and channels x output
    out = torch.bmm(rows, matrix).transpose(0, 1).reshape(batch, height, width, out_channels)
    return (out if bias is None else out + bias).permute(0, 3, 1, 2)


def _places(
    offset: Tensor, kernel: list[int], stride: IntPair, padding: IntPair, dilation: IntPair, deform_groups: int
) -> list[Tensor]:
    """Where every tap reads: y and x (B, deform_groups, h, w, taps) in input pixels."""
    taps = torch.meshgrid(*(torch.arange(size, device=offset.device) for size in kernel), indexing="ij")
    cells = torch.meshgrid(*(torch.arange(size, device=offset.device) for size in offset.shape[-2:]), indexing="ij")
    moved = offset.unflatten(1, (deform_groups, -1, 2)).permute(3, 0, 1, 4, 5, 2)
    return [
        moved[axis] + (cells[axis][..., None] * stride[axis] - padding[axis] + taps[axis].flatten() * dilation[axis])
        for axis in (0, 1)
    ]


def _corners(y: Tensor, x: Tensor, size: IntPair) -> tuple[Tensor, Tensor]:
    """The four rows (..., 4) of the table around places (B, deform_groups, ...), and their shares; 0 beyond the map."""
    rows, row_shares = _neighbours(y, size[0])
    columns, column_shares = _neighbours(x, size[1])
    tables = torch.arange(y.shape[0] * y.shape[1], device=y.device).view(*y.shape[:2], *(1,) * (y.ndim - 1))
    index = ((tables * size[0] + rows) * size[1])[..., :, None] + columns[..., None, :]
    return index.flatten(-2), (row_shares[..., :, None] * column_shares[..., None, :]).flatten(-2)


def _neighbours(place: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """The two whole numbers around places (...), (..., 2), and their shares, 0 where they are not in [0, length)."""
    place = place.clamp(-2, length + 1)  # far off is as good as off; NaN stays
    low = place.detach().floor()
    share = place - low
    index = torch.stack((low, low + 1), -1).long()
    shares = torch.stack((1 - share, share), -1) * ((index >= 0) & (index < length))
    return index.clamp(0, length - 1), shares
