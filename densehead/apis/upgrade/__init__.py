"""Configs of mmdetection 2.x in today's spelling."""

from densehead.apis.upgrade.config import OldSpellingError, check_spelling, upgrade_config, upgrade_file
from densehead.apis.upgrade.report import Report

__all__ = ["OldSpellingError", "Report", "check_spelling", "upgrade_config", "upgrade_file"]
