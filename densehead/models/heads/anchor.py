"""The base of anchor-based heads: two towers, and the anchors that take part in a batch."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import Scale
from torch import Tensor, nn

from densehead.models.heads.base import DenseHead
from densehead.models.heads.defaults import (
    BINARY_CROSS_ENTROPY,
    DELTA_CODER,
    GROUP_NORM,
    RETINA_ANCHORS,
    SMOOTH_L1_LOSS,
)
from densehead.models.heads.towers import CompileOption, conv_tower, run_tower
from densehead.structures import Predictions, Priors
from densehead.typing import ConfigDict, InitConfig, LevelMaps, OptConfig


class AnchorHead(DenseHead):
    """A head whose priors are anchors: a classification tower, a regression tower, and maps from both.

    A subclass makes its predicting convolutions in :meth:`_init_predictors` and runs them in ``forward_single``.

    Args:
        num_classes, in_channels: see :class:`DenseHead`.
        pred_kernel_size: kernel of the predicting convolutions.
        stacked_convs: convolutions in each tower.
        conv_cfg, norm_cfg: kinds of convolution and norm in the towers.
        reg_decoded_bbox: must be True: the box loss compares boxes.
        init_cfg: initialisation of the weights.
        feat_channels: channels of the towers.
        anchor_generator, bbox_coder, loss_cls, loss_bbox: configs.
        train_cfg: ``assigner``; ``allowed_border``, how far (pixels) anchors may reach beyond the image and still take
            part, negative for any distance; and see :class:`DenseHead`.
        test_cfg: see :class:`DenseHead`.
        compile_towers: whether the towers are compiled while they train, True or a dict of options of
            :func:`torch.compile`; see :class:`~densehead.models.heads.towers.Tower`.

    Raises:
        ValueError: ``reg_decoded_bbox=False``.
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        pred_kernel_size: int = 3,
        stacked_convs: int = 4,
        conv_cfg: OptConfig = None,
        norm_cfg: OptConfig = GROUP_NORM,
        reg_decoded_bbox: bool = True,
        init_cfg: InitConfig = None,
        feat_channels: int = 256,
        anchor_generator: ConfigDict = RETINA_ANCHORS,
        bbox_coder: ConfigDict = DELTA_CODER,
        loss_cls: ConfigDict = BINARY_CROSS_ENTROPY,
        loss_bbox: ConfigDict = SMOOTH_L1_LOSS,
        train_cfg: OptConfig = None,
        test_cfg: OptConfig = None,
        compile_towers: CompileOption = False,
    ) -> None:
        if not reg_decoded_bbox:
            raise ValueError(
                "bbox_head.reg_decoded_bbox must be True for this head: its box loss and its box quality compare "
                "boxes in pixels"
            )
        super().__init__(
            num_classes,
            in_channels,
            feat_channels,
            anchor_generator,
            bbox_coder,
            loss_cls,
            loss_bbox,
            train_cfg,
            test_cfg,
            init_cfg,
        )
        self.pred_kernel_size = pred_kernel_size
        self.stacked_convs = stacked_convs
        self.conv_cfg = conv_cfg
        self.norm_cfg = norm_cfg
        self.compile_towers = compile_towers
        self._init_layers()

    def forward(self, x: Sequence[Tensor]) -> tuple[list[Tensor], ...]:
        """Return the maps of all levels, as :meth:`forward_single` puts them out.

        Args:
            x: feature maps, one (B, in_channels, h, w) a level.
        """
        maps = [self.forward_single(feature, scale) for feature, scale in zip(x, self.scales, strict=True)]
        return tuple(map(list, zip(*maps, strict=True)))

    def forward_single(self, x: Tensor, scale: Scale) -> tuple[Tensor, ...]:
        """Return the maps of one level."""
        raise NotImplementedError

    def run_towers(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the features of the classification and of the regression tower."""
        return run_tower(self.cls_convs, x), run_tower(self.reg_convs, x)

    def boxes_at(self, predictions: Predictions, priors: Priors, image_index: Tensor, prior_index: Tensor) -> Tensor:
        """See the base class."""
        deltas = predictions["box_deltas"].at(image_index, prior_index).float()
        return self.bbox_coder.decode(priors.boxes[prior_index], deltas)

    def default_assigner(self) -> ConfigDict:
        """Return ATSS's rule: 9 candidates a level."""
        return dict(type="ATSSAssigner", topk=9)

    def _training_priors(self, maps: LevelMaps, metas: list[dict]) -> Priors:
        """Leave out, image by image, the anchors that begin in the padding or reach too far out of the image."""
        return self._inside_images(self.prior_generator, maps, metas)

    def _init_layers(self) -> None:
        self.cls_convs, self.reg_convs = (
            conv_tower(
                self.stacked_convs,
                self.in_channels,
                self.feat_channels,
                conv_cfg=self.conv_cfg,
                norm_cfg=self.norm_cfg,
                compile=self.compile_towers,
            )
            for _ in range(2)
        )
        self._init_predictors()
        self.scales = nn.ModuleList(Scale(1.0) for _ in self.prior_generator.strides)

    def _init_predictors(self) -> None:
        """Make the convolutions that put out the maps, with :meth:`_predictor`."""
        raise NotImplementedError

    def _predictor(self, count: int) -> nn.Conv2d:
        """Return a convolution that puts out ``count`` numbers a prior."""
        channels = self.feat_channels if self.stacked_convs else self.in_channels
        size = self.pred_kernel_size
        return nn.Conv2d(channels, self.num_base_priors * count, size, padding=size // 2)
