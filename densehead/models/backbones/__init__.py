"""Backbones: images to maps."""

from densehead.models.backbones.res2net import Res2Net
from densehead.models.backbones.resnet import ResNet
from densehead.models.backbones.resnext import ResNeXt
from densehead.models.backbones.shufflenet_v2 import ShuffleNetV2

__all__ = ["Res2Net", "ResNeXt", "ResNet", "ShuffleNetV2"]
