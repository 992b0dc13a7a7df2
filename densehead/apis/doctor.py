"""Examining a config and its data before a training."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope, init_default_scope
from torch import nn

from densehead.analysis.doctor import boxes, classes, config_checks, expectation, images, levels, loading, schedule
from densehead.analysis.doctor.building import build_model, try_optimizer
from densehead.analysis.doctor.errors import config_finding
from densehead.analysis.doctor.findings import Example, Finding, Severity, counted, shown_path
from densehead.analysis.doctor.fix import require_new_folder, write_fixed
from densehead.analysis.doctor.page import Checkup, Section, render
from densehead.analysis.doctor.parts import Part, Split
from densehead.analysis.doctor.progress import Tracker, on_terminal, silent
from densehead.apis.upgrade import check_spelling
from densehead.engine.checks import TRAIN_SECTIONS, check_classes, check_sections
from densehead.files import whole_file
from densehead.registry import SCOPE

__all__ = ["FOUND", "DoctorOptions", "examine", "on_terminal", "report"]

#: The exit code of a run that found errors; 2 stands for input that cannot be read at all.
FOUND = 3
SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class DoctorOptions:
    """How thoroughly to look.

    Attributes:
        gpus: processes that will train.
        read_images: whether image files are looked at.
        decode: whether they are decoded to the last pixel.
        try_model: whether a training step is taken to estimate memory and time.
        workers: files that are read at a time.
        device: on which the step is taken.
        track: says how far the reading is.

    Raises:
        ValueError: a number below 1.
    """

    gpus: int = 1
    read_images: bool = True
    decode: bool = False
    try_model: bool = True
    workers: int = field(default_factory=lambda: min(8, os.cpu_count() or 1))
    device: str = field(default_factory=lambda: "cuda" if torch.cuda.is_available() else "cpu")
    track: Tracker = silent

    def __post_init__(self) -> None:
        for name in ("gpus", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name} must be at least 1, but got {getattr(self, name)}")


def examine(cfg: Config, options: DoctorOptions | None = None) -> tuple[Checkup, list[Split], images.ImageChecks]:
    """Look for what is wrong with a config and its data.

    Args:
        cfg: of a detector; it stays as it is.
        options: how thoroughly to look.

    Returns:
        What was found; the data sets and their images, which :func:`densehead.analysis.doctor.fix.write_fixed` takes.

    Raises:
        ValueError: the config is written for mmdetection 2.x.
    """
    options = options or DoctorOptions()
    check_spelling(cfg, cfg.filename)
    if DefaultScope.get_current_instance() is None:
        init_default_scope(cfg.get("default_scope") or SCOPE)
    checkup = Checkup(shown_path(str(cfg.filename or "the config")))
    try:
        check_sections(cfg, TRAIN_SECTIONS, cfg.filename)
    except ValueError as error:
        example = Example("", "", str(error))
        checkup.findings.append(Finding("config", Severity.ERROR, "the config is not whole", examples=(example,)))
    with _only_errors_logged():
        splits = _splits(cfg)
        for split in splits:
            split.read(options.track, options.workers)
        looked_at = images.ImageChecks(
            splits, options.track, workers=options.workers, read=options.read_images, decoded=options.decode
        )
        looked_at.fill_sizes()
        _examine_data(splits, looked_at, checkup)
        _examine_model(cfg, splits, options, checkup)
    return checkup, splits, looked_at


def report(
    cfg: Config,
    options: DoctorOptions | None = None,
    *,
    json_file: str | None = None,
    fix_folder: str | None = None,
    strict: bool = False,
) -> int:
    """Examine a config, print the page and write what was asked for.

    Args:
        cfg: of a detector.
        options: how thoroughly to look.
        json_file: gets the findings too.
        fix_folder: gets cleaned copies of the annotations; must be new or empty.
        strict: warnings count as errors.

    Returns:
        :data:`FOUND` where there are errors, else 0.

    Raises:
        ValueError: see :func:`examine`; or the folder is not empty.
    """
    if fix_folder is not None:
        require_new_folder(fix_folder)
    checkup, splits, looked_at = examine(cfg, options)
    print(render(checkup, colored=sys.stdout.isatty() and "NO_COLOR" not in os.environ))
    if json_file is not None:
        with whole_file(json_file) as file:
            file.write(f"{json.dumps(checkup.to_dict(), indent=1)}\n".encode())
    if fix_folder is not None:
        metrics = {key: file for name in SPLITS for key, file in config_checks.evaluator_files(cfg, name).items()}
        print(write_fixed(fix_folder, splits, looked_at, metrics).told())
    worst = Severity.WARNING if strict else Severity.ERROR
    return FOUND if any(one.severity >= worst for one in checkup.findings) else 0


@contextlib.contextmanager
def _only_errors_logged() -> Iterator[None]:
    """Keep what data sets and optimizers log to themselves: it is on the page, or not worth it."""
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _splits(cfg: Config) -> list[Split]:
    """The splits of the config; one with the data sets of another than training is not looked at again."""
    found: list[Split] = []
    for name in SPLITS:
        dataset = (cfg.get(f"{name}_dataloader") or {}).get("dataset")
        if not isinstance(dataset, Mapping):
            continue
        same = [one for one in found if one.name != "train" and one.cfg == dataset]
        if same:
            same[0].also.append(name)
        else:
            found.append(Split(name, dataset))
    return found


def _examine_data(splits: Sequence[Split], looked_at: images.ImageChecks, checkup: Checkup) -> None:
    found = checkup.findings
    found += [one for split in splits for part in split.parts for one in part.findings]
    found += looked_at.findings()
    found += classes.check_agreement(splits)
    for split in splits:
        for part in split.readable:
            names = classes.check_names(part)
            found += [*names, *boxes.check_boxes(part)]
        spoilt = any(one.check in ("classes-none", "box-format") and one.split == split.name for one in found)
        if split.readable and not spoilt:
            found += images.without_objects(split.readable)
    counts = {split.name: classes.ClassCounts(split.readable) for split in splits if split.readable}
    if "train" in counts:
        found += classes.check_counts(counts["train"], counts.get("val"))
    checkup.sections += [_split_section(splits), classes.class_section(list(counts.values()))]
    checkup.sections = [one for one in checkup.sections if one is not None]


def _examine_model(cfg: Config, splits: Sequence[Split], options: DoctorOptions, checkup: Checkup) -> None:
    found, by_name = checkup.findings, {split.name: split for split in splits}
    train, val = (by_name[name].readable if name in by_name else [] for name in ("train", "val"))
    sized = [part for part in train if part.has_pipeline]
    found += config_checks.check_checkpoints(cfg)
    for split in splits:
        found += config_checks.check_evaluators(cfg, split.name, split.parts)
    model = build_model(cfg, found)
    if model is not None:
        found += _class_findings(model, splits)
        found += config_checks.check_frozen(cfg, model)
        try_optimizer(cfg, model, found)
        head = getattr(model, "bbox_head", None)
        if sized and hasattr(head, "prior_generator"):
            of_levels, section = levels.check_levels(sized, levels.LevelRule.of(head))
            found += of_levels
            checkup.sections += [section] if section else []
    found += levels.check_shift(sized, [part for part in val if part.has_pipeline])
    plan = schedule.Plan.of(cfg, len(by_name["train"].round()), options.gpus) if train else None
    if plan is not None:
        for check in (schedule.check_length, schedule.check_rate, schedule.check_schedulers):
            found += check(cfg, plan)
    seconds, failed = loading.time_loading(sized) if options.read_images else (None, [])
    found += failed
    section = _expect(cfg, model, plan, sized, options, seconds, found)
    checkup.sections += [section] if section else []


def _class_findings(model: nn.Module, splits: Sequence[Split]) -> list[Finding]:
    found = []
    for part in (part for split in splits for part in split.parts if part.dataset is not None):
        try:
            check_classes(model, part.dataset, part.key)
        except ValueError as error:
            what = "num_classes of the head is not the number of classes"
            found.append(
                Finding("num-classes", Severity.ERROR, what, part.split, examples=(Example(part.key, "", str(error)),))
            )
    return found


def _expect(
    cfg: Config,
    model: nn.Module | None,
    plan: schedule.Plan | None,
    train: Sequence[Part],
    options: DoctorOptions,
    seconds: float | None,
    found: list[Finding],
) -> Section | None:
    """What to expect, as far as it can be said."""
    if plan is None or model is None or not options.try_model:
        return expectation.expectation_section(plan, None)
    divisor = getattr(model.data_preprocessor, "pad_size_divisor", 1)
    sizes = expectation.BatchSizes.of(train, divisor)
    if sizes is None or sizes.largest == (0, 0):
        return expectation.expectation_section(plan, None)
    try:
        expected = expectation.Expectation.of(cfg, model, plan, sizes, options.device, seconds)
    except torch.cuda.OutOfMemoryError as error:
        what = f"a step on {plan.batch_size} images of {sizes.largest[0]} x {sizes.largest[1]} does not fit the GPU"
        found.append(Finding("memory", Severity.ERROR, what, examples=(Example("", "", str(error).split("\n")[0]),)))
        return expectation.expectation_section(plan, None)
    except FloatingPointError as error:  # of random weights
        return expectation.expectation_section(plan, None, f"Memory and time could not be estimated: {error}")
    except Exception as error:  # whatever the parts of the model do not agree on
        found.append(config_finding(error, {}, "model", what="a training step on made-up images fails"))
        return expectation.expectation_section(plan, None)
    found += expected.findings()
    return expectation.expectation_section(plan, expected)


def _split_section(splits: Sequence[Split]) -> Section:
    rows, data = [], []
    for part in (part for split in splits for part in split.parts):
        one = {"split": part.split, "key": part.key, "type": part.kind if part.dataset is not None else None}
        told = "cannot be read"
        if part.annotations is not None:
            one |= {"images": part.annotations.num_images, "boxes": len(part.annotations.boxes)}
            one |= {"objects": int(part.is_object.sum()), "file": part.annotations.file}
            told = f"{counted(one['images'], 'image')}, {counted(one['objects'], 'object')} to learn"
            told += f", of {part.kind} {shown_path(part.annotations.file)}"
        rows.append((part.split, told))
        data.append(one)
    return Section("splits", "", (), rows, (), data)
