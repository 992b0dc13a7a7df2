"""ShuffleNet V2 (Ma et al. 2018, https://arxiv.org/abs/1807.11164)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torchvision.models.shufflenetv2 import InvertedResidual

from densehead.models.backbones.base import Backbone
from densehead.models.layers import build_act
from densehead.registry import MODELS
from densehead.typing import ConfigDict, InitConfig

STAGES = ("stage2", "stage3", "stage4")
REPEATS = (4, 8, 4)
STEM_CHANNELS = 24
CHANNELS = {  # table 5
    0.5: (48, 96, 192),
    1.0: (116, 232, 464),
    1.5: (176, 352, 704),
    2.0: (244, 488, 976),
}


@MODELS.register_module()
class ShuffleNetV2(Backbone):
    """ShuffleNet V2 up to its last stage; blocks, parameter names and their order are torchvision's.

    Args:
        widen_factor: width of the network: 0.5, 1.0, 1.5 or 2.0.
        out_indices: stages, counted from 0, whose maps are put out, at strides 8, 16 and 32.
        frozen_stages: 0 freezes the stem, ``n`` also the first ``n`` stages, -1 nothing. Frozen parameters get no
            gradient, frozen batch norms stay in eval mode.
        act_cfg: activation; ``dict(type='LeakyReLU', negative_slope=0.1)`` in NanoDet-Plus.
        norm_eval: keep all batch norms in eval mode while training.
        init_cfg: initialisation; ``dict(type='Pretrained', checkpoint='torchvision://shufflenet_v2_x1_0')`` for the
            weights of ImageNet (see :func:`densehead.models.backbones.pretrained.init_weights`).

    Raises:
        ValueError: another width, or stages that there are not.
    """

    stage_names = STAGES

    def __init__(
        self,
        widen_factor: float = 1.0,
        out_indices: Sequence[int] = (0, 1, 2),
        frozen_stages: int = -1,
        act_cfg: ConfigDict = {"type": "ReLU"},  # noqa: B006 (only read)
        norm_eval: bool = False,
        init_cfg: InitConfig = None,
    ) -> None:
        _check(widen_factor, out_indices, frozen_stages)
        super().__init__(_default_init_cfg() if init_cfg is None else init_cfg)
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.conv1 = nn.Sequential(
            nn.Conv2d(3, STEM_CHANNELS, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(STEM_CHANNELS), nn.ReLU()
        )
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        inputs = STEM_CHANNELS
        for name, channels, count in zip(STAGES, CHANNELS[widen_factor], REPEATS, strict=True):
            blocks = [
                InvertedResidual(inputs if number == 0 else channels, channels, 2 if number == 0 else 1)
                for number in range(count)
            ]
            self.add_module(name, nn.Sequential(*blocks))
            inputs = channels
        _replace_relu(self, act_cfg)
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of the stages in ``out_indices``.

        Args:
            x: (B, 3, H, W) images.
        """
        return self.run_stages(self.maxpool(self.conv1(x)))

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        for name in ("conv1", *STAGES[: self.frozen_stages]):
            getattr(self, name).eval().requires_grad_(False)


def _replace_relu(network: nn.Module, act_cfg: ConfigDict) -> None:
    """Put the activation of ``act_cfg`` where torchvision's blocks have a ReLU; no parameter is renamed by it."""
    relus = [name for name, module in network.named_modules() if isinstance(module, nn.ReLU)]
    for name in relus:
        parent, _, child = name.rpartition(".")
        setattr(network.get_submodule(parent), child, build_act(act_cfg))


def _default_init_cfg() -> list[ConfigDict]:
    return [
        {"type": "Kaiming", "layer": "Conv2d"},
        {"type": "Constant", "val": 1, "layer": "_BatchNorm"},
    ]


def _check(widen_factor: float, out_indices: Sequence[int], frozen_stages: int) -> None:
    if widen_factor not in CHANNELS:
        raise ValueError(
            f"backbone.widen_factor must be one of {', '.join(map(str, CHANNELS))}, but got {widen_factor!r}"
        )
    if not out_indices or not set(out_indices) <= set(range(len(STAGES))):
        raise ValueError(f"backbone.out_indices must be some of 0, 1 and 2, but got {out_indices}")
    if not -1 <= frozen_stages <= len(STAGES):
        raise ValueError(f"backbone.frozen_stages must be -1 to {len(STAGES)}, but got {frozen_stages}")
