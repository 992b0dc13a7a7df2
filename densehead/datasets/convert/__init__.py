"""Converters between COCO, Pascal VOC and YOLO: a reader and a writer for each, and a record between them."""

from densehead.datasets.convert.images import HOW
from densehead.datasets.convert.record import ImageRecord, Mark, Record, SplitRecord
from densehead.datasets.convert.run import Conversion, convert

__all__ = ["HOW", "Conversion", "ImageRecord", "Mark", "Record", "SplitRecord", "convert"]
