"""What an assigner did, what a data set holds and where detections go wrong: numbers, pictures and pages."""

from densehead.analysis.records import AssignmentRecord, read_records
from densehead.analysis.scenes import Scene

__all__ = ["AssignmentRecord", "Scene", "read_records"]
