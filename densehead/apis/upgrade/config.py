"""Configs of mmdetection 2.x: recognised, explained, written anew."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from densehead.apis.upgrade.data import DataUpgrade, upgrade_evaluation
from densehead.apis.upgrade.model import drop_unused_assigner, upgrade_model
from densehead.apis.upgrade.report import Report
from densehead.apis.upgrade.runtime import upgrade_environment, upgrade_hooks
from densehead.apis.upgrade.schedule import upgrade_learning_rate, upgrade_length, upgrade_optimizer
from densehead.apis.upgrade.views import upgrade_views
from densehead.apis.writing import SECTIONS, config_text

# Variables of mmdetection's own bases, whose loss needs no mention
_VARIABLES = ("data_root", "dataset_type", "classes", "file_client_args", "vis_backends", "backend_args")


def upgrade_config(cfg: Mapping) -> tuple[dict, Report]:
    """Return a config in today's spelling, and what was changed; ``cfg`` stays as it is.

    A config of today comes back as it is, without the variables that are no section.
    """
    new = _plain(cfg.to_dict() if isinstance(cfg, Config) else cfg)
    report = Report()
    try:
        _upgrade(new, report)
    except (AttributeError, IndexError, KeyError, TypeError) as error:
        done = f", after {report.changes[-1][0]}" if report.changes else ""
        raise ValueError(
            f"the config is neither one of today nor as mmdetection 2.x wants it: {error!r}{done}"
        ) from error
    return {key: new[key] for key in SECTIONS if key in new}, report


def _upgrade(cfg: dict, report: Report) -> None:
    had_data = isinstance(cfg.get("data"), dict)
    data = DataUpgrade(cfg, report)
    data()
    upgrade_model(cfg, data.moved, report)
    upgrade_views(cfg, data.moved, report)
    evaluation = upgrade_evaluation(cfg, report, had_data)
    upgrade_optimizer(cfg, report)
    by_epoch = upgrade_length(cfg, evaluation, report)
    upgrade_learning_rate(cfg, by_epoch, report)
    upgrade_hooks(cfg, evaluation, by_epoch, report)
    upgrade_environment(cfg, report)
    if report.spelled_old:
        drop_unused_assigner(cfg.get("model"), report)
        cfg.setdefault("default_scope", "densehead")
        rest = [key for key in cfg if key not in (*SECTIONS, *_VARIABLES) and not key.endswith("_pipeline")]
        if rest:
            report.remark(", ".join(rest), "left out: variables that nothing names any more, or keys unknown here")


class OldSpellingError(ValueError):
    """A config is written for mmdetection 2.x."""


def check_spelling(cfg: Mapping, file: str | os.PathLike | None = None) -> None:
    """Raise an error that says, key by key, what to write in place of the spelling of mmdetection 2.x.

    Args:
        cfg: the whole config; nothing happens where it is spelled as today.
        file: for the message.

    Raises:
        OldSpellingError: as said.
    """
    _, report = upgrade_config(cfg)
    if report.spelled_old:
        name = file or "OLD.py"
        lines = "\n".join(f"  {line}" for line in report.lines())
        raise OldSpellingError(
            f"{file or 'the config'} is written for mmdetection 2.x. What to write today:\n{lines}\n"
            f"All of it is done by: python tools/upgrade_config.py {name} NEW.py"
        )


def upgrade_file(old: str | os.PathLike, new: str | os.PathLike, *, force: bool = False) -> Report:
    """Read a config of mmdetection 2.x with its bases, and write one of today without bases.

    Args:
        old: the config file.
        new: the file to write, ``.py``.
        force: whether to write it where there is one already.

    Returns:
        What was changed, and what could not be translated; the file says the latter as well.

    Raises:
        FileNotFoundError: there is no ``old``, or not one of its bases.
        ValueError: there is ``new`` already and no ``force``, or it is ``old``; or ``old`` is no config, one of today,
            or holds what has no text.
    """
    old, new = Path(old), Path(new)
    if not old.is_file():
        raise FileNotFoundError(f"there is no config file {old}")
    if new.suffix != ".py":
        raise ValueError(f"the file to write must end with .py, but got {new}")
    if new.exists() and (not force or new.samefile(old)):
        hint = "give another name" if new.samefile(old) else "give another name, or --force to write over it"
        raise ValueError(f"{new} is there already: {hint}")
    cfg, report = upgrade_config(_read(old))
    if not report.spelled_old:
        raise ValueError(f"{old} is not written for mmdetection 2.x: there is nothing to upgrade")
    try:
        text = config_text(cfg, _comments(old.name, report))
    except ValueError as error:
        raise ValueError(f"{old}: {error}") from None
    new.parent.mkdir(parents=True, exist_ok=True)
    new.write_text(text, encoding="utf-8")
    return report


def _read(file: Path) -> Config:
    try:
        return Config.fromfile(file, import_custom_modules=False)
    except FileNotFoundError:
        raise
    except Exception as error:
        raise ValueError(f"{file} cannot be read as a config: {type(error).__name__}: {error}") from error


def _plain(node: Any) -> Any:
    """Return a deep copy in plain containers, without mmengine's ``_delete_`` that found nothing to delete."""
    if isinstance(node, Mapping):
        return {key: _plain(value) for key, value in node.items() if key != "_delete_"}
    if isinstance(node, list | tuple):
        return type(node)(_plain(one) for one in node)
    return copy.deepcopy(node)


def _comments(name: str, report: Report) -> list[str]:
    """Return what stands above the new config."""
    lines = [f"{name} of mmdetection 2.x, its bases included, in today's spelling."]
    if report.remarks:
        lines += ["To look at:", *(f"- {key}: {text}" for key, text in report.remarks)]
    return lines
