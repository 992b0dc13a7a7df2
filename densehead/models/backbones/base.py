"""What backbones share: stages whose maps are put out, frozen parts, pretrained weights."""

from __future__ import annotations

from collections.abc import Sequence

from mmengine.model import BaseModule
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from densehead.models.backbones.pretrained import init_weights


class Backbone(BaseModule):
    """A network of stages; a subclass makes them, and says what is frozen.

    Attributes:
        stage_names: names of the stages, in order.
        out_indices: stages, counted from 0, whose maps are put out.
        norm_eval: whether batch norms stay in eval mode while training.
    """

    stage_names: Sequence[str]
    out_indices: Sequence[int]
    norm_eval: bool

    def run_stages(self, x: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of the stages in ``out_indices``, from what the stem made of the images."""
        maps = []
        for index in range(max(self.out_indices) + 1):
            x = getattr(self, self.stage_names[index])(x)
            if index in self.out_indices:
                maps.append(x)
        return tuple(maps)

    def train(self, mode: bool = True) -> Backbone:
        """Switch the mode of everything but what is frozen."""
        super().train(mode)
        self._freeze()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def init_weights(self) -> None:
        """Initialise as ``init_cfg`` says."""
        init_weights(self, super().init_weights, key="backbone.init_cfg")

    def _freeze(self) -> None:
        """Put frozen parts into eval mode and stop their gradients."""
        raise NotImplementedError
