"""Time and memory of heads and trainings, beside mmdetection's where it can be imported."""

from densehead.apis.benchmark.heads import HeadOptions, measure_heads
from densehead.apis.benchmark.training import TrainOptions, measure_training

__all__ = ["HeadOptions", "TrainOptions", "measure_heads", "measure_training"]
