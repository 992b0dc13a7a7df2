"""Metrics: COCO's and Pascal VOC's average precision, and a file of the detections."""

from densehead.evaluation.coco_metric import CocoMetric
from densehead.evaluation.dump_det_results import DumpDetResults
from densehead.evaluation.voc_metric import VOCMetric

__all__ = ["CocoMetric", "DumpDetResults", "VOCMetric"]
