"""Backbones: images to maps."""

from densehead.models.backbones.resnet import ResNet

__all__ = ["ResNet"]
