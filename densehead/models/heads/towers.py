"""The convolutions that heads are made of."""

from __future__ import annotations

import inspect
import logging
from collections.abc import Iterable, Mapping

import torch
from mmcv.cnn import ConvModule
from mmengine.logging import print_log
from torch import Tensor, nn

from densehead.models.layers import scoped
from densehead.registry import MODELS
from densehead.typing import ConfigDict, OptConfig

CompileOption = bool | ConfigDict


class Tower(nn.ModuleList):
    """Layers that are run one after the other; to checkpoints a plain list of them.

    Args:
        layers: each takes what the one before returns.
        compile: whether, and with which options, :func:`torch.compile` makes one program of them while they train.
            What cannot be compiled on the machine is said once, and the layers run as they are.

    Raises:
        ValueError: options that ``torch.compile`` does not have.
    """

    def __init__(self, layers: Iterable[nn.Module], compile: CompileOption = False) -> None:
        super().__init__(layers)
        self.compile_options = _compile_options(compile)
        self._compiled = None

    def forward(self, feature: Tensor) -> Tensor:
        """Send a feature map (B, c, h, w) through the layers."""
        # Images of a test have many sizes, and each would be compiled anew.
        if self.compile_options is None or not self.training or not len(self):
            return self._run(feature)
        from torch._dynamo.exc import TorchDynamoException  # takes a second to import

        try:
            if self._compiled is None:
                self._compiled = torch.compile(self._run, **self.compile_options)
            return self._compiled(feature)
        except (TorchDynamoException, ImportError) as error:
            self.compile_options = None
            reason = " ".join(str(error).split("\n")[:2]).strip()
            print_log(
                f"bbox_head.compile_towers: the towers could not be compiled and run as they are: {reason}. "
                "(On a CPU torch.compile needs a C++ compiler such as g++, on a GPU Triton and a C compiler.)",
                logger="current",
                level=logging.WARNING,
            )
            return self._run(feature)

    def __getstate__(self) -> dict:
        # a copy (of an exponential moving average, say) compiles its own
        hidden = {"_compiled": None, "_compiled_call_impl": None}  # the second of torch's own Module.compile
        return {**self.__dict__, **hidden}

    def _run(self, feature: Tensor) -> Tensor:
        for layer in self:
            feature = layer(feature)
        return feature


def conv_tower(
    count: int,
    in_channels: int,
    channels: int,
    *,
    conv_cfg: OptConfig = None,
    norm_cfg: OptConfig = None,
    bias: bool | str = "auto",
    dcn_on_last_conv: bool = False,
    compile: CompileOption = False,
) -> Tower:
    """Return ``count`` convolutions of 3 x 3 with norm and ReLU, run one after the other by :func:`run_tower`.

    Args:
        count: number of convolutions.
        in_channels: channels of the feature maps.
        channels: channels of the tower.
        conv_cfg: kind of convolution; plain if None.
        norm_cfg: kind of norm; none if None.
        bias: whether the convolutions have a bias; ``'auto'``: where no norm follows.
        dcn_on_last_conv: whether the last one is deformable (v2).
        compile: see :class:`Tower`.
    """
    kinds = [conv_cfg] * count
    if dcn_on_last_conv and count:
        kinds[-1] = dict(type="DCNv2")
    layers = (
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
    return Tower(layers, compile)


def run_tower(tower: nn.ModuleList, feature: Tensor) -> Tensor:
    """Send a feature map (B, c, h, w) through a tower, or any other list of layers."""
    if isinstance(tower, Tower):
        return tower(feature)
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


def _compile_options(given: CompileOption) -> dict | None:
    """Return the options of ``torch.compile``, None where nothing is to be compiled."""
    if isinstance(given, bool):
        return {} if given else None
    known = list(inspect.signature(torch.compile).parameters)[1:]  # without the model
    if not isinstance(given, Mapping) or not set(given) <= set(known):
        raise ValueError(
            "bbox_head.compile_towers must be True, False or a dict of options of torch.compile "
            f"({', '.join(known)}), but got {given!r}"
        )
    return dict(given)
