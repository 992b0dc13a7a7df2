"""ResNet (He et al. 2016, Deep Residual Learning for Image Recognition, https://arxiv.org/abs/1512.03385)."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import Sequential
from torch import Tensor, nn

from densehead.models.backbones.base import Backbone
from densehead.models.backbones.blocks import BasicBlock, Bottleneck
from densehead.models.layers import build_conv, build_norm
from densehead.registry import MODELS
from densehead.typing import ConfigDict, InitConfig, OptConfig

BLOCKS = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    152: (Bottleneck, (3, 8, 36, 3)),
}


@MODELS.register_module()
class ResNet(Backbone):
    """ResNet backbone; keys, parameter names and their order are those of mmdetection (and of torchvision).

    Args:
        depth: 18, 34, 50, 101 or 152.
        in_channels: channels of the images.
        stem_channels: channels after the stem; ``base_channels`` if None.
        base_channels: width of the first stage, doubled from stage to stage.
        num_stages: stages to build, 1 to 4.
        strides: of each stage.
        dilations: of each stage.
        out_indices: stages, counted from 0, whose maps are put out.
        style: where the bottlenecks have their stride: ``'pytorch'`` in the 3x3 convolution, ``'caffe'`` in the
            first 1x1.
        deep_stem: three 3x3 convolutions in place of the 7x7 one.
        avg_down: average pooling in place of the stride of shortcuts.
        frozen_stages: 0 freezes the stem, ``n`` also the first ``n`` stages, -1 nothing. Frozen parameters get no
            gradient, frozen batch norms stay in eval mode.
        conv_cfg: type of the convolutions.
        norm_cfg: type of the norms.
        norm_eval: keep all batch norms in eval mode while training.
        dcn: deformable convolutions for the 3x3 ones, such as ``dict(type='DCNv2', deform_groups=1,
            fallback_on_stride=False)``.
        stage_with_dcn: which stages have them.
        plugins: not supported.
        with_cp: compute blocks again in the backward pass instead of keeping their maps: less memory, more time.
        zero_init_residual: start with residual branches of zeros. Holds for the default initialisation only.
        pretrained: older spelling of ``init_cfg=dict(type='Pretrained', checkpoint=pretrained)``.
        init_cfg: initialisation. ``dict(type='Pretrained', checkpoint=...)`` takes a local file or an address
            (see :func:`densehead.models.backbones.pretrained.init_weights`).

    Raises:
        ValueError: a key that does not fit the others.
    """

    #: The block and the number of blocks of each stage, by depth.
    blocks = BLOCKS

    def __init__(
        self,
        depth: int,
        in_channels: int = 3,
        stem_channels: int | None = None,
        base_channels: int = 64,
        num_stages: int = 4,
        strides: Sequence[int] = (1, 2, 2, 2),
        dilations: Sequence[int] = (1, 1, 1, 1),
        out_indices: Sequence[int] = (0, 1, 2, 3),
        style: str = "pytorch",
        deep_stem: bool = False,
        avg_down: bool = False,
        frozen_stages: int = -1,
        conv_cfg: OptConfig = None,
        norm_cfg: ConfigDict = {"type": "BN", "requires_grad": True},  # noqa: B006 (only read)
        norm_eval: bool = True,
        dcn: OptConfig = None,
        stage_with_dcn: Sequence[bool] = (False, False, False, False),
        plugins: list[ConfigDict] | None = None,
        with_cp: bool = False,
        zero_init_residual: bool = True,
        pretrained: str | None = None,
        init_cfg: InitConfig = None,
    ) -> None:
        _check_depth(depth, self.blocks)
        _check_stages(num_stages, strides, dilations, out_indices, frozen_stages, dcn and stage_with_dcn)
        _check_parts(style, conv_cfg, dcn, plugins, pretrained, init_cfg)
        if pretrained is not None:
            init_cfg = {"type": "Pretrained", "checkpoint": pretrained}
        super().__init__(_default_init_cfg() if init_cfg is None else init_cfg)
        self.depth = depth
        self.out_indices = tuple(out_indices)
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.deep_stem = deep_stem
        channels = stem_channels or base_channels
        self._add_stem(in_channels, channels, conv_cfg, norm_cfg)
        block, counts = self.blocks[depth]
        self.stage_names = []
        for stage in range(num_stages):
            planes = base_channels * 2**stage
            layer = _stage(
                block,
                (channels, planes, counts[stage]),
                stride=strides[stage],
                avg_down=avg_down,
                dilation=dilations[stage],
                style=style,
                conv_cfg=conv_cfg,
                norm_cfg=norm_cfg,
                dcn=dcn if dcn and stage_with_dcn[stage] else None,
                with_cp=with_cp,
                zero_init=zero_init_residual and init_cfg is None,
                **self._block_options(planes, base_channels),
            )
            channels = planes * block.expansion
            self.stage_names.append(f"layer{stage + 1}")
            self.add_module(self.stage_names[-1], layer)
        self._freeze()

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of the stages in ``out_indices``.

        Args:
            x: (B, in_channels, H, W) images.
        """
        x = self.stem(x) if self.deep_stem else self.relu(getattr(self, self.norm_name)(self.conv1(x)))
        return self.run_stages(self.maxpool(x))

    def _block_options(self, planes: int, base_channels: int) -> dict[str, int]:
        """Return more arguments of the blocks of a stage."""
        return {}

    def _add_stem(self, in_channels: int, channels: int, conv_cfg: OptConfig, norm_cfg: ConfigDict) -> None:
        if self.deep_stem:
            self.stem = _deep_stem(in_channels, channels, conv_cfg, norm_cfg)
        else:
            self.conv1 = build_conv(conv_cfg, in_channels, channels, 7, stride=2, padding=3, bias=False)
            self.norm_name, norm = build_norm(norm_cfg, channels, 1)
            self.add_module(self.norm_name, norm)
            self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        stem = [self.stem] if self.deep_stem else [self.conv1, getattr(self, self.norm_name)]
        for module in stem + [getattr(self, name) for name in self.stage_names[: self.frozen_stages]]:
            module.eval()
            module.requires_grad_(False)


def _stage(
    block: type[BasicBlock] | type[Bottleneck],
    size: tuple[int, int, int],
    *,
    stride: int,
    avg_down: bool,
    conv_cfg: OptConfig,
    norm_cfg: ConfigDict,
    **kwargs,
) -> Sequential:
    """Chain the blocks of a stage; ``size`` is its input channels, its planes and its number of blocks."""
    inplanes, planes, count = size
    outplanes = planes * block.expansion
    shortcut = None
    if stride != 1 or inplanes != outplanes:
        conv = build_conv(conv_cfg, inplanes, outplanes, 1, stride=1 if avg_down else stride, bias=False)
        pool = [nn.AvgPool2d(stride, stride, ceil_mode=True, count_include_pad=False)] if avg_down else []
        shortcut = nn.Sequential(*pool, conv, build_norm(norm_cfg, outplanes)[1])
    kwargs |= {"conv_cfg": conv_cfg, "norm_cfg": norm_cfg}
    first = block(inplanes, planes, stride=stride, downsample=shortcut, **kwargs)
    return Sequential(first, *(block(outplanes, planes, **kwargs) for _ in range(1, count)))


def _deep_stem(in_channels: int, channels: int, conv_cfg: OptConfig, norm_cfg: ConfigDict) -> nn.Sequential:
    """Three 3x3 convolutions (He et al. 2019, Bag of Tricks, figure 2b)."""
    layers = []
    half = channels // 2
    for inputs, outputs, stride in ((in_channels, half, 2), (half, half, 1), (half, channels, 1)):
        layers.append(build_conv(conv_cfg, inputs, outputs, 3, stride=stride, padding=1, bias=False))
        layers.append(build_norm(norm_cfg, outputs)[1])
        layers.append(nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def _default_init_cfg() -> list[ConfigDict]:
    return [
        {"type": "Kaiming", "layer": "Conv2d"},
        {"type": "Constant", "val": 1, "layer": ["_BatchNorm", "GroupNorm"]},
    ]


def _check_depth(depth: int, blocks: dict[int, tuple]) -> None:
    if depth not in blocks:
        raise ValueError(f"backbone.depth must be one of {', '.join(map(str, blocks))}, but got {depth!r}")


def _check_stages(num_stages, strides, dilations, out_indices, frozen_stages, stage_with_dcn) -> None:
    if not 1 <= num_stages <= 4:
        raise ValueError(f"backbone.num_stages must be 1 to 4, but got {num_stages}")
    for name, values in (("strides", strides), ("dilations", dilations), ("stage_with_dcn", stage_with_dcn)):
        if values and len(values) != num_stages:
            raise ValueError(
                f"backbone.{name} must have one entry per stage (backbone.num_stages={num_stages}), but got {values}"
            )
    if not out_indices or min(out_indices) < 0 or max(out_indices) >= num_stages:
        raise ValueError(
            f"backbone.out_indices must lie in 0 to {num_stages - 1} (backbone.num_stages={num_stages}), "
            f"but got {out_indices}"
        )
    if frozen_stages > num_stages:
        raise ValueError(f"backbone.frozen_stages must be -1 to {num_stages}, but got {frozen_stages}")


def _check_parts(style, conv_cfg, dcn, plugins, pretrained, init_cfg) -> None:
    if style not in ("pytorch", "caffe"):
        raise ValueError(f"backbone.style must be 'pytorch' or 'caffe', but got {style!r}")
    if dcn is not None and conv_cfg is not None:
        raise ValueError("backbone.dcn and backbone.conv_cfg exclude each other: set one of them to None")
    if plugins is not None:
        raise ValueError("backbone.plugins are not supported: set plugins=None")
    if pretrained is not None and init_cfg:
        raise ValueError("backbone.pretrained and backbone.init_cfg exclude each other: keep init_cfg")
