"""Backbone, neck and one dense head."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

from torch import Tensor, nn

from densehead.models.detectors.base import BaseDetector, Samples
from densehead.registry import MODELS
from densehead.typing import ConfigDict, InitConfig, LevelMaps, OptConfig, Size


@MODELS.register_module()
class SingleStageDetector(BaseDetector):
    """A detector that predicts boxes densely from the maps of its backbone and neck.

    Args:
        backbone: config of the backbone.
        neck: config of the neck; the head reads the backbone's maps if None.
        bbox_head: config of the head.
        train_cfg: handed to the head, whose own stays if None.
        test_cfg: likewise.
        data_preprocessor: see :class:`BaseDetector`.
        init_cfg: see :class:`BaseDetector`.
        channels_last: whether maps lie in memory with their channels last, which is faster on GPUs in mixed precision
            and a little on CPUs. Sums are taken in another order; and PyTorch's group norm of such maps on a CPU loses
            precision where values are large against their spread (relative 1e-6 times the square of their ratio).

    The configs are copied; the caller's stay as they are.
    """

    def __init__(
        self,
        backbone: ConfigDict,
        neck: OptConfig = None,
        bbox_head: OptConfig = None,
        train_cfg: OptConfig = None,
        test_cfg: OptConfig = None,
        data_preprocessor: ConfigDict | nn.Module | None = None,
        init_cfg: InitConfig = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        if bbox_head is None:
            raise ValueError(f"{type(self).__name__} needs a config of its head: model.bbox_head=dict(type=...)")
        self.backbone = MODELS.build(copy.deepcopy(backbone))
        if neck is not None:
            self.neck = MODELS.build(copy.deepcopy(neck))
        head = copy.deepcopy(bbox_head)
        for name, cfg in (("train_cfg", train_cfg), ("test_cfg", test_cfg)):
            if cfg is not None:
                head[name] = copy.deepcopy(cfg)
        self.bbox_head = MODELS.build(head)
        self.train_cfg = train_cfg
        self.test_cfg = test_cfg
        self._fitting_sizes: set[Size] = set()
        if hasattr(self.data_preprocessor, "num_classes"):
            self.data_preprocessor.num_classes = getattr(self.bbox_head, "num_classes", None)
        self.lay_out(channels_last)

    def loss(self, batch_inputs: Tensor, batch_data_samples: Samples) -> dict[str, Tensor]:
        """Return the head's losses."""
        return self.bbox_head.loss(self.extract_feat(batch_inputs), batch_data_samples)

    def predict(self, batch_inputs: Tensor, batch_data_samples: Samples, rescale: bool = True) -> Samples:
        """Return the samples with their detections in ``pred_instances``.

        Args:
            batch_inputs: (B, C, H, W) images.
            batch_data_samples: of the images.
            rescale: whether boxes are in pixels of the original images rather than of the inputs.
        """
        detections = self.bbox_head.predict(self.extract_feat(batch_inputs), batch_data_samples, rescale=rescale)
        return self.add_pred_to_datasample(batch_data_samples, detections)

    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the maps that the head reads, from fine to coarse.

        Raises:
            ValueError: the maps are not what the head expects.
        """
        maps = self.backbone(batch_inputs)
        if self.with_neck:
            maps = self.neck(maps)
        self._check_fit(batch_inputs, maps)
        return maps

    def _check_fit(self, batch_inputs: Tensor, maps: LevelMaps) -> None:
        """Check once for each size of images that the head can read the maps."""
        size = tuple(batch_inputs.shape[-2:])
        if size not in self._fitting_sizes:
            check_fit(size, maps, self.bbox_head, "neck" if self.with_neck else "backbone")
            self._fitting_sizes.add(size)

    def _forward(self, batch_inputs: Tensor, batch_data_samples: Samples | None = None) -> tuple[LevelMaps, ...]:
        return self.bbox_head(self.extract_feat(batch_inputs))


def check_fit(size: Size, maps: LevelMaps, head: nn.Module, source: str) -> None:
    """Raise a ValueError where a head cannot read maps: their number, channels or strides are not its own.

    Args:
        size: height and width of the images, pixels.
        maps: what the head is to read, (B, c, h, w) each.
        head: looked at for ``in_channels`` and the strides of its priors; what it lacks is not checked.
        source: ``'neck'`` or ``'backbone'``, whichever puts out the maps.
    """
    key = "bbox_head.strides" if hasattr(head, "strides") else "bbox_head.anchor_generator.strides"
    strides = getattr(getattr(head, "prior_generator", head), "strides", None)
    if strides is not None and len(strides) != len(maps):
        raise ValueError(
            f"{key} has {len(strides)} entries, but the {source} puts out {len(maps)} levels: make "
            f"{'neck.num_outs' if source == 'neck' else 'the number of backbone.out_indices'} and {key} agree"
        )
    channels = getattr(head, "in_channels", None)
    for level, feature in enumerate(maps):
        if isinstance(channels, int) and feature.shape[1] != channels:
            raise ValueError(
                f"bbox_head.in_channels={channels}, but level {level} of the {source} has {feature.shape[1]} channels: "
                f"make {'neck.out_channels' if source == 'neck' else 'the channels of the backbone'} and "
                "bbox_head.in_channels agree"
            )
        if strides is not None:
            _check_stride(size, feature, level, strides[level], key, source)


def _check_stride(size: Size, feature: Tensor, level: int, stride: int | Sequence[int], key: str, source: str) -> None:
    """Compare the size of a level with what its stride makes of the images' size, whichever way that is rounded."""
    stride_x, stride_y = stride if isinstance(stride, Sequence) else (stride, stride)
    height, width = feature.shape[-2:]
    for pixels, cells, expected in ((size[0], height, stride_y), (size[1], width, stride_x)):
        is_rounded = pixels // expected <= cells <= max(math.ceil(pixels / expected), 1)
        is_near = 2 / 3 < pixels / cells / expected < 3 / 2
        if not (is_rounded or is_near):
            actual = 2 ** round(math.log2(pixels / cells))
            raise ValueError(
                f"level {level} of the {source} has stride {actual} ({height} x {width} places for images of {size[0]} "
                f"x {size[1]}), but {key}[{level}] is {expected}: make them agree; neck.start_level and "
                "backbone.out_indices decide where the levels begin"
            )
