"""NanoDet-Plus, with the assign guidance module that helps it while it trains."""

from __future__ import annotations

import copy

import torch
from mmengine.logging import MessageHub
from torch import Tensor, nn

from densehead.models.detectors.base import Samples
from densehead.models.detectors.single_stage import SingleStageDetector
from densehead.registry import MODELS
from densehead.typing import ConfigDict, InitConfig, LevelMaps, OptConfig


@MODELS.register_module()
class NanoDetPlus(SingleStageDetector):
    """A detector whose labels are assigned by what a larger auxiliary head predicts (assign guidance module).

    While losses are computed, a second neck reads the backbone's maps, and ``aux_head`` reads the levels of both necks.
    The assigner looks at its predictions, for the head's losses and for its own (``aux_loss_*``). From epoch
    ``detach_epoch`` on it learns from the backbone and the neck without teaching them. To predict, neither runs.

    Args:
        backbone, bbox_head, train_cfg, test_cfg, data_preprocessor: see :class:`SingleStageDetector`.
        neck: likewise; there must be one.
        aux_head: config of the auxiliary head, such as a
            :class:`~densehead.models.heads.SimpleConvHead`; ``num_classes``, ``in_channels``, ``strides`` and
            ``reg_max`` are those that fit ``bbox_head`` where it has none. None: no auxiliary parts at all, to train
            without or to predict from a checkpoint without.
        detach_epoch: finished epochs after which the auxiliary parts no longer send gradients to the others. The epoch
            is the one that mmengine's runner announces, also after a resume; a training loop of one's own says it with
            :meth:`set_epoch`.
        init_cfg, channels_last: see :class:`SingleStageDetector`.

    Raises:
        ValueError: no neck, or an auxiliary head that does not fit ``bbox_head``.
    """

    def __init__(
        self,
        backbone: ConfigDict,
        neck: OptConfig = None,
        bbox_head: OptConfig = None,
        aux_head: OptConfig = None,
        detach_epoch: int = 0,
        train_cfg: OptConfig = None,
        test_cfg: OptConfig = None,
        data_preprocessor: ConfigDict | nn.Module | None = None,
        init_cfg: InitConfig = None,
        channels_last: bool = False,
    ) -> None:
        super().__init__(backbone, neck, bbox_head, train_cfg, test_cfg, data_preprocessor, init_cfg, channels_last)
        self.detach_epoch = detach_epoch
        self._epoch: int | None = None
        self.aux_head = None
        if aux_head is None:
            return
        if not self.with_neck:
            raise ValueError("NanoDetPlus needs a config of its neck, which the auxiliary head reads too: model.neck")
        self.aux_neck = copy.deepcopy(self.neck)
        self.aux_head = MODELS.build(self._fitted(aux_head))
        self.lay_out(channels_last)

    @property
    def epoch(self) -> int:
        """The current epoch, counted from 0: what :meth:`set_epoch` was told, else what mmengine's runner says."""
        if self._epoch is not None:
            return self._epoch
        return MessageHub.get_current_instance().get_info("epoch", 0)

    def set_epoch(self, epoch: int | None) -> None:
        """Say the epoch where no runner of mmengine does; None to listen to the runner again."""
        self._epoch = epoch

    def init_weights(self) -> None:
        """Initialise as ``init_cfg`` says; the auxiliary neck starts as the neck does, unless a checkpoint has both."""
        is_first = not self.is_init
        super().init_weights()
        cfgs = self.init_cfg if isinstance(self.init_cfg, list) else [self.init_cfg or {}]
        if is_first and self.aux_head is not None and not any(cfg.get("type") == "Pretrained" for cfg in cfgs):
            self.aux_neck.load_state_dict(self.neck.state_dict())

    def loss(self, batch_inputs: Tensor, batch_data_samples: Samples) -> dict[str, Tensor]:
        """Return the losses of the head and of the auxiliary head."""
        if self.aux_head is None:
            return super().loss(batch_inputs, batch_data_samples)
        stages = self.backbone(batch_inputs)
        maps = self.neck(stages)
        self._check_fit(batch_inputs, maps)
        return self.bbox_head.loss(maps, batch_data_samples, aux_maps=self._auxiliary(stages, maps))

    def _auxiliary(self, stages: LevelMaps, maps: LevelMaps) -> tuple[LevelMaps, LevelMaps]:
        """Return the maps of the auxiliary head."""
        if self.epoch >= self.detach_epoch:
            stages, maps = ([level.detach() for level in levels] for levels in (stages, maps))
        both = zip(maps, self.aux_neck(stages), strict=True)
        return self.aux_head([torch.cat(pair, 1) for pair in both])

    def _fitted(self, aux_head: ConfigDict) -> ConfigDict:
        """Complete the config of the auxiliary head, and check it."""
        head = self.bbox_head
        expected = {
            "num_classes": head.cls_out_channels,
            "in_channels": 2 * head.in_channels,
            "strides": head.strides,
            "reg_max": head.reg_max,
        }
        for key, value in expected.items():
            given = aux_head.get(key, value)
            if (list(given) != list(value)) if key == "strides" else (given != value):
                raise ValueError(
                    f"aux_head.{key} must be {value} to fit bbox_head, but got {given}: leave it out to have it so"
                )
        return {**expected, **copy.deepcopy(aux_head)}
