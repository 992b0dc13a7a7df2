"""Steps of a training whose losses are not finite: what was wrong, reported, and repeated."""

from densehead.analysis.faults.diagnosis import diagnose
from densehead.analysis.faults.fault import BadObject, Fault, Place
from densehead.analysis.faults.replay import Replay, StoredStep
from densehead.analysis.faults.report import Circumstances, write_report
from densehead.analysis.faults.step import TrainingStep

__all__ = [
    "BadObject",
    "Circumstances",
    "Fault",
    "Place",
    "Replay",
    "StoredStep",
    "TrainingStep",
    "diagnose",
    "write_report",
]
