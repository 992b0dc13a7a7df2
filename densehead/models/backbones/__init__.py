"""Backbones: images to maps."""

from densehead.models.backbones.resnet import ResNet
from densehead.models.backbones.resnext import ResNeXt

__all__ = ["ResNeXt", "ResNet"]
