"""ResNeXt (Xie et al. 2017, https://arxiv.org/abs/1611.05431)."""

from __future__ import annotations

from densehead.models.backbones.resnet import ResNet
from densehead.registry import MODELS


@MODELS.register_module()
class ResNeXt(ResNet):
    """A ResNet whose bottlenecks have many narrow groups (ResNeXt, figure 3c).

    Args:
        groups: number of groups, the cardinality.
        base_width: channels of a group in the first stage.
        kwargs: see :class:`ResNet`; ``depth`` 50, 101 or 152.

    Raises:
        ValueError: another depth.
    """

    def __init__(self, groups: int = 1, base_width: int = 4, **kwargs) -> None:
        if kwargs.get("depth") in (18, 34):
            raise ValueError(f"ResNeXt.depth must be 50, 101 or 152, but got {kwargs['depth']}")
        self.groups = groups
        self.base_width = base_width
        super().__init__(**kwargs)

    def _block_options(self, planes: int, base_channels: int) -> dict[str, int]:
        width = planes * self.base_width // base_channels * self.groups
        return {"groups": self.groups, "width": width}
