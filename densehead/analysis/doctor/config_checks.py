"""Checks of a config that need nothing but the config and what it builds."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence

from torch import nn

from densehead.analysis.doctor.findings import Example, Finding, Severity, shown_path
from densehead.analysis.doctor.parts import Part
from densehead.arguments import walk
from densehead.datasets.validate import is_local


def check_checkpoints(cfg: Mapping) -> Iterable[Finding]:
    """Return the checkpoints that the config names and that are not there."""
    named = {"load_from": cfg.get("load_from")}
    for path, node in walk(cfg.get("model") or {}, "model"):
        if str(node.get("type", "")).endswith("Pretrained"):
            named[f"{path}.checkpoint"] = node.get("checkpoint")
    for key, file in named.items():
        if file and is_local(str(file)) and not os.path.isfile(os.path.expanduser(str(file))):
            what = "a checkpoint that the config names is not there"
            yield Finding("checkpoint-missing", Severity.ERROR, what, examples=(Example(key, "", str(file)),))


def check_frozen(cfg: Mapping, model: nn.Module) -> Iterable[Finding]:
    """Check that what does not learn was learned before."""
    backbone = getattr(model, "backbone", None)
    inits = [getattr(one, "init_cfg", None) for one in (model, backbone)]
    inits = [one for init in inits if init for one in (init if isinstance(init, list) else [init])]
    if cfg.get("load_from") or any(str(one.get("type", "")).endswith("Pretrained") for one in inits):
        return
    frozen = getattr(backbone, "frozen_stages", -1)
    if isinstance(frozen, int) and frozen >= 0:
        what = (
            f"stages of the backbone stay at random weights: frozen_stages={frozen}, and there are no pretrained ones"
        )
        yield Finding("frozen-random", Severity.ERROR, what, examples=(Example("model.backbone.frozen_stages"),))
    elif getattr(backbone, "norm_eval", False):
        what = "norms of the backbone keep the statistics they begin with: norm_eval=True, without pretrained weights"
        yield Finding("frozen-random", Severity.WARNING, what, examples=(Example("model.backbone.norm_eval"),))


def evaluator_files(cfg: Mapping, split: str) -> dict[str, str]:
    """Return the annotation files on this machine that metrics of a split compare with, by their keys in the config."""
    evaluators = cfg.get(f"{split}_evaluator") or []
    evaluators = evaluators if isinstance(evaluators, list | tuple) else [evaluators]
    found = {}
    for index, one in enumerate(evaluators):
        file = one.get("ann_file") if isinstance(one, Mapping) else None
        if file and is_local(file, one.get("backend_args")):
            found[f"{split}_evaluator" + (f".{index}" if len(evaluators) > 1 else "") + ".ann_file"] = str(file)
    return found


def check_evaluators(cfg: Mapping, split: str, parts: Sequence[Part]) -> Iterable[Finding]:
    """Check that metrics compare with the annotations that the images of a split come with."""
    files = [str(part.dataset.ann_file) for part in parts if getattr(part.dataset, "ann_file", "")]
    for key, file in evaluator_files(cfg, split).items() if files else ():
        if not os.path.isfile(file):
            what = "the metric's annotation file is not there"
        elif os.path.realpath(file) not in map(os.path.realpath, files):
            what = "the metric compares with another annotation file than that of the data set"
        else:
            continue
        detail = f"{shown_path(file)}; the data set has {', '.join(map(shown_path, files))}"
        yield Finding("evaluator-file", Severity.ERROR, what, split, examples=(Example(key, "", detail),))
