"""What an assigner did, what a data set holds and where detections go wrong: numbers, pictures and pages."""

from densehead.analysis.records import AssignmentRecord, read_records
from densehead.analysis.scenes import Scene
from densehead.analysis.statistics import AssignmentStatistics
from densehead.analysis.statistics_files import comparison_table, object_rows, write_statistics

__all__ = [
    "AssignmentRecord",
    "AssignmentStatistics",
    "Scene",
    "comparison_table",
    "object_rows",
    "read_records",
    "write_statistics",
]
