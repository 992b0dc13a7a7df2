"""Building what a config describes, to hear what is wrong with it."""

from __future__ import annotations

import copy

from mmengine.config import Config
from mmengine.model.utils import revert_sync_batchnorm
from mmengine.optim import build_optim_wrapper
from torch import nn

from densehead.analysis.doctor.errors import config_finding
from densehead.analysis.doctor.findings import Finding
from densehead.analysis.doctor.parts import EXPECTED
from densehead.registry import MODELS


def build_model(cfg: Config, found: list[Finding]) -> nn.Module | None:
    """Build the model of a config, uncompiled and with random weights; a fault is added to ``found``."""
    if cfg.get("model") is None:
        return None
    model_cfg = copy.deepcopy(cfg.model)
    (model_cfg.get("bbox_head") or {}).pop("compile_towers", None)
    (model_cfg.get("train_cfg") or {}).pop("compile_losses", None)
    try:
        return revert_sync_batchnorm(MODELS.build(model_cfg))
    except (*EXPECTED, AssertionError, RuntimeError) as error:
        found.append(config_finding(error, model_cfg.to_dict(), "model"))
        return None


def try_optimizer(cfg: Config, model: nn.Module, found: list[Finding]) -> None:
    """Build the optimizer of a config, to hear of its keys; a fault is added to ``found``."""
    if cfg.get("optim_wrapper") is None:
        return
    wrapper = copy.deepcopy(cfg.optim_wrapper)
    if str(wrapper.get("type", "")).endswith("AmpOptimWrapper"):  # which asks for a GPU
        wrapper = {key: value for key, value in wrapper.items() if key not in ("loss_scale", "dtype", "use_fsdp")}
        wrapper["type"] = "OptimWrapper"
    try:
        build_optim_wrapper(model, wrapper)
    except (*EXPECTED, AssertionError) as error:
        found.append(config_finding(error, dict(cfg.optim_wrapper), "optim_wrapper"))
