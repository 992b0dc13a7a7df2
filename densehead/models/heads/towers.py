"""The convolutions that heads are made of."""

from __future__ import annotations

from mmcv.cnn import ConvModule
from torch import Tensor, nn

from densehead.models.layers import scoped
from densehead.registry import MODELS
from densehead.typing import OptConfig


def conv_tower(
    count: int,
    in_channels: int,
    channels: int,
    *,
    conv_cfg: OptConfig = None,
    norm_cfg: OptConfig = None,
    bias: bool | str = "auto",
    dcn_on_last_conv: bool = False,
) -> nn.ModuleList:
    """Return ``count`` convolutions of 3 x 3 with norm and ReLU, run one after the other by :func:`run_tower`.

    Args:
        count: number of convolutions.
        in_channels: channels of the feature maps.
        channels: channels of the tower.
        conv_cfg: kind of convolution; plain if None.
        norm_cfg: kind of norm; none if None.
        bias: whether the convolutions have a bias; ``'auto'``: where no norm follows.
        dcn_on_last_conv: whether the last one is deformable (v2).
    """
    kinds = [conv_cfg] * count
    if dcn_on_last_conv and count:
        kinds[-1] = dict(type="DCNv2")
    return nn.ModuleList(
        ConvModule(
            channels if number else in_channels,
            channels,
            3,
            padding=1,
            conv_cfg=scoped(kind),
            norm_cfg=scoped(norm_cfg),
            bias=bias,
        )
        for number, kind in enumerate(kinds)
    )


def run_tower(tower: nn.ModuleList, feature: Tensor) -> Tensor:
    """Send a feature map (B, c, h, w) through a tower."""
    for layer in tower:
        feature = layer(feature)
    return feature


@MODELS.register_module()
class NormedConv2d(nn.Conv2d):
    """A convolution of normalised features with normalised weights: cosine similarity, scaled.

    Args:
        args, kwargs: those of :class:`torch.nn.Conv2d`.
        tempearture: the scale (spelt as in mmdetection's configs).
        power: exponent of the norms.
        eps: added to the norms.
        norm_over_kernel: whether a filter's norm is taken over its whole kernel, or over the channels at each place.
    """

    def __init__(
        self,
        *args,
        tempearture: float = 20,
        power: float = 1.0,
        eps: float = 1e-6,
        norm_over_kernel: bool = False,
        **kwargs,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.tempearture = tempearture
        self.power = power
        self.eps = eps
        self.norm_over_kernel = norm_over_kernel

    def forward(self, x: Tensor) -> Tensor:
        """Convolve (B, c, h, w)."""
        axes = (1, 2, 3) if self.norm_over_kernel else 1
        weight = self.weight / (self.weight.norm(dim=axes, keepdim=True) ** self.power + self.eps)
        x = x / (x.norm(dim=1, keepdim=True) ** self.power + self.eps) * self.tempearture
        return self._conv_forward(x, weight, self.bias)
