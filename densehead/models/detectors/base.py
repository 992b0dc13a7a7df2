"""What every detector offers to the runner."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

import torch
from mmengine.model import BaseModel
from mmengine.structures import InstanceData
from torch import Tensor, nn

from densehead.models.backbones.pretrained import init_weights
from densehead.models.data_preprocessor import boxes_to_tensors
from densehead.registry import MODELS
from densehead.structures import DetDataSample
from densehead.typing import ConfigDict, InitConfig

Samples = list[DetDataSample]


class BaseDetector(BaseModel):
    """Base class of detectors.

    Args:
        data_preprocessor: makes batches of what the data loader yields; ``DetDataPreprocessor`` without normalisation
            if None.
        init_cfg: initialisation of the whole model; ``dict(type='Pretrained', checkpoint=...)`` takes what
            :func:`densehead.models.backbones.pretrained.init_weights` lists.
    """

    def __init__(self, data_preprocessor: ConfigDict | nn.Module | None = None, init_cfg: InitConfig = None) -> None:
        if not isinstance(data_preprocessor, nn.Module):
            data_preprocessor = MODELS.build(data_preprocessor or {"type": "DetDataPreprocessor"})
        super().__init__(data_preprocessor, init_cfg)

    @property
    def with_neck(self) -> bool:
        """Whether there is a neck."""
        return getattr(self, "neck", None) is not None

    @property
    def with_bbox(self) -> bool:
        """Whether there is a box head."""
        return getattr(self, "bbox_head", None) is not None

    def lay_out(self, channels_last: bool) -> None:
        """Lay the weights of the convolutions out with the channels last, where that is asked for.

        A convolution goes by its weights: it puts its map out in their layout, whatever that of the images is. Names,
        shapes and checkpoints stay as they are.
        """
        if not isinstance(channels_last, bool):
            raise ValueError(f"model.channels_last must be True or False, but got {channels_last!r}")
        if channels_last:
            self.to(memory_format=torch.channels_last)

    def init_weights(self) -> None:
        """Initialise as ``init_cfg`` says."""
        init_weights(self, super().init_weights, key="model.init_cfg")

    def forward(
        self, inputs: Tensor, data_samples: Samples | None = None, mode: str = "tensor"
    ) -> dict[str, Tensor] | Samples | tuple[Sequence[Tensor], ...]:
        """Run the detector on a batch of the data preprocessor.

        Args:
            inputs: (B, C, H, W) images.
            data_samples: of the images; not needed for ``'tensor'``.
            mode: ``'loss'`` for the losses, ``'predict'`` for the samples with ``pred_instances``, ``'tensor'`` for
                the maps of the head.

        Raises:
            ValueError: another mode.
        """
        if mode == "loss":
            return self.loss(inputs, data_samples)
        if mode == "predict":
            return self.predict(inputs, data_samples)
        if mode == "tensor":
            return self._forward(inputs, data_samples)
        raise ValueError(f"mode must be 'loss', 'predict' or 'tensor', but got {mode!r}")

    @abstractmethod
    def loss(self, batch_inputs: Tensor, batch_data_samples: Samples) -> dict[str, Tensor]:
        """Return the losses of a batch; values whose names lack ``loss`` are logged only."""

    @abstractmethod
    def predict(self, batch_inputs: Tensor, batch_data_samples: Samples, rescale: bool = True) -> Samples:
        """Return the samples with their detections in ``pred_instances``."""

    @abstractmethod
    def _forward(self, batch_inputs: Tensor, batch_data_samples: Samples | None = None):
        """Return the maps of the head."""

    @abstractmethod
    def extract_feat(self, batch_inputs: Tensor) -> tuple[Tensor, ...]:
        """Return the maps that the head reads."""

    def add_pred_to_datasample(self, data_samples: Samples, results_list: list[InstanceData]) -> Samples:
        """Set ``pred_instances`` of each sample, in place, to its detections."""
        for sample, detections in zip(data_samples, results_list, strict=True):
            sample.pred_instances = detections
        boxes_to_tensors(data_samples)
        return data_samples
