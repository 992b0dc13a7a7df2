"""Data sets, their transforms and batch samplers."""

from densehead.datasets import transforms
from densehead.datasets.base_det_dataset import BaseDetDataset
from densehead.datasets.coco import CocoDataset
from densehead.datasets.collate import packed_collate
from densehead.datasets.data_yaml import yolo_class_names
from densehead.datasets.digits import DigitsDataset
from densehead.datasets.formats import FoundDataset, recognise
from densehead.datasets.samplers import AspectRatioBatchSampler
from densehead.datasets.voc import VOCDataset
from densehead.datasets.wrappers import ClassBalancedDataset, ConcatDataset, RepeatDataset
from densehead.datasets.xml_style import XMLDataset
from densehead.datasets.yolo import YOLODataset

__all__ = [
    "AspectRatioBatchSampler",
    "BaseDetDataset",
    "ClassBalancedDataset",
    "CocoDataset",
    "ConcatDataset",
    "DigitsDataset",
    "FoundDataset",
    "RepeatDataset",
    "VOCDataset",
    "XMLDataset",
    "YOLODataset",
    "packed_collate",
    "recognise",
    "transforms",
    "yolo_class_names",
]
