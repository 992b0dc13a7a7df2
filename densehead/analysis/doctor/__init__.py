"""Reads a config and its data before a training and says what is wrong, the worst first."""

from densehead.analysis.doctor.advice import ADVICE
from densehead.analysis.doctor.findings import Example, Finding, Severity
from densehead.analysis.doctor.page import Checkup, Section, render

__all__ = ["ADVICE", "Checkup", "Example", "Finding", "Section", "Severity", "render"]
