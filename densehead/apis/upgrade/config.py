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
from densehead.apis.upgrade.writing import Code, as_text

# The order in which a config is written
SECTIONS = (
    "model",
    "train_dataloader",
    "val_dataloader",
    "test_dataloader",
    "val_evaluator",
    "test_evaluator",
    "tta_model",
    "tta_pipeline",
    "train_cfg",
    "val_cfg",
    "test_cfg",
    "param_scheduler",
    "optim_wrapper",
    "auto_scale_lr",
    "default_scope",
    "custom_imports",
    "default_hooks",
    "custom_hooks",
    "visualizer",
    "log_processor",
    "log_level",
    "env_cfg",
    "randomness",
    "model_wrapper_cfg",
    "find_unused_parameters",
    "compile",
    "runner_type",
    "launcher",
    "experiment_name",
    "work_dir",
    "load_from",
    "resume",
)
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
        text = _text(cfg, old.name, report)
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


# ---- text ----------------------------------------------------------------------------------------------------------


def _text(cfg: dict, name: str, report: Report) -> str:
    """Return a config as the text of a file."""
    lines = [f"# {name} of mmdetection 2.x, its bases included, in today's spelling."]
    if report.remarks:
        lines += ["# To look at:", *(f"# - {key}: {text}" for key, text in report.remarks)]
    cfg, variables = _with_variables(cfg)
    entries = [*variables.items(), *cfg.items()]
    blocks = [f"{key} = {as_text(value, used=len(key) + 3)}" for key, value in entries]
    for before, block in zip(["\n", *blocks], blocks, strict=False):
        lines += [block] if "\n" not in before + block else ["", block]  # short ones stand together
    return "\n".join(lines) + "\n"


def _with_variables(cfg: dict) -> tuple[dict, dict]:
    """Put what is said several times into variables, so that options can name them."""
    cfg, variables = copy.deepcopy(cfg), {}
    roots = {one["data_root"] for one in _datasets(cfg) if "data_root" in one}
    if len(roots) == 1:
        (root,) = roots
        variables["data_root"] = root
        for one in _datasets(cfg):
            if "data_root" in one:
                one["data_root"] = Code("data_root")
        for key in ("val_evaluator", "test_evaluator"):
            evaluator = cfg.get(key)
            file = evaluator.get("ann_file") if isinstance(evaluator, dict) else None
            if file and root and file.startswith(root):
                evaluator["ann_file"] = Code(f"data_root + {as_text(file.removeprefix(root))}")
    for split in ("train", "test"):
        found = [one["pipeline"] for one in _datasets(cfg, split) if "pipeline" in one]
        if found and not any(isinstance(one, Code) for one in found):
            variables[f"{split}_pipeline"] = found[0]
            for one in _datasets(cfg):
                if one.get("pipeline") == found[0]:
                    one["pipeline"] = Code(f"{split}_pipeline")
    for key in ("dataloader", "evaluator"):
        if cfg.get(f"val_{key}") is not None and cfg.get(f"val_{key}") == cfg.get(f"test_{key}"):
            cfg[f"test_{key}"] = Code(f"val_{key}")
    return cfg, variables


def _datasets(cfg: dict, *splits: str) -> list[dict]:
    """Return the configs of the data sets that are no wrappers."""
    found, queue = [], [cfg.get(f"{split}_dataloader") or {} for split in splits or ("train", "val", "test")]
    while queue:
        node = queue.pop()
        inner = [node["dataset"]] if "dataset" in node else node.get("datasets")
        if inner is None:
            found.append(node)
        else:
            queue += inner
    return found
