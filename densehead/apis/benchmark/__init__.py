"""Time and memory of heads and trainings, beside mmdetection's where it can be imported."""

from densehead.apis.benchmark.heads import HeadOptions, measure_heads

__all__ = ["HeadOptions", "measure_heads"]
