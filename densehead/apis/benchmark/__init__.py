"""Time and memory of heads and trainings, beside mmdetection's where it can be imported."""

from densehead.apis.benchmark.heads import HeadOptions, count_steps, measure_heads
from densehead.apis.benchmark.scaling import ScalingOptions, count_scaling, measure_scaling
from densehead.apis.benchmark.training import TrainOptions, measure_training

__all__ = [
    "HeadOptions",
    "ScalingOptions",
    "TrainOptions",
    "count_scaling",
    "count_steps",
    "measure_heads",
    "measure_scaling",
    "measure_training",
]
