"""What an assigner did, what a data set holds and where detections go wrong: numbers, pictures and pages."""

from densehead.analysis.records import AssignmentRecord, read_records

__all__ = ["AssignmentRecord", "read_records"]
