"""Optimizer, learning rate and length of a training in mmdetection 2.x."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from densehead.apis.upgrade.report import Report, merge

_HOOK_KEYS = ("_delete_", "type", "distributed", "coalesce", "bucket_size_mb", "detect_anomalous_params")


def upgrade_optimizer(cfg: dict, report: Report) -> None:
    """Turn ``optimizer``, ``optimizer_config`` and ``fp16`` into ``optim_wrapper``, in place."""
    new: dict[str, Any] = {}
    present = cfg.get("optim_wrapper") or {}
    optimizer = cfg.get("optimizer")
    if isinstance(optimizer, dict):
        optimizer = dict(cfg.pop("optimizer"))
        if optimizer != present.get("optimizer"):  # else a variable of one of today's configs
            _optimizer(optimizer, new, report)
    if "optimizer_config" in cfg:
        _step(dict(cfg.pop("optimizer_config") or {}), new, report)
    if "fp16" in cfg:
        settings = cfg.pop("fp16")
        if settings is not None:
            _mixed_precision(dict(settings), new, report)
    if new:
        kind = new.pop("type", present.get("type", "OptimWrapper"))
        wrapper = merge({key: value for key, value in present.items() if key != "type"}, new)
        cfg["optim_wrapper"] = {"type": kind, **wrapper}


def _optimizer(optimizer: dict, new: dict, report: Report) -> None:
    for key in ("paramwise_cfg", "constructor"):
        if key in optimizer:
            new[key] = optimizer.pop(key)
            if new[key] == "DefaultOptimizerConstructor":
                new[key] = "DefaultOptimWrapperConstructor"
            report.change(f"optimizer.{key}", f"optim_wrapper.{key} = {{}}", new[key])
    new["optimizer"] = optimizer
    report.change("optimizer", "optim_wrapper = {}", {"type": "OptimWrapper", "optimizer": optimizer})


def _step(settings: dict, new: dict, report: Report) -> None:
    if "grad_clip" in settings:
        new["clip_grad"] = settings.pop("grad_clip")
        report.change("optimizer_config.grad_clip", "optim_wrapper.clip_grad = {}", new["clip_grad"])
    if "cumulative_iters" in settings:
        new["accumulative_counts"] = settings.pop("cumulative_iters")
        report.change(
            "optimizer_config.cumulative_iters",
            "optim_wrapper.accumulative_counts = {}",
            new["accumulative_counts"],
        )
    if settings.get("type") in ("Fp16OptimizerHook", "GradientCumulativeFp16OptimizerHook") or "loss_scale" in settings:
        _mixed_precision({"loss_scale": settings.pop("loss_scale", 512.0)}, new, report)
    for key in set(settings) - set(_HOOK_KEYS):
        report.remark(f"optimizer_config.{key}", "has no counterpart; it is left out")
    if not new:
        report.change("optimizer_config", "optim_wrapper does it", minor=True)


def _mixed_precision(settings: dict, new: dict, report: Report) -> None:
    new.update(type="AmpOptimWrapper", loss_scale=settings.pop("loss_scale", 512.0))
    said = {"type": new["type"], "loss_scale": new["loss_scale"]}
    report.change("fp16", "optim_wrapper = {}", said)


def upgrade_length(cfg: dict, evaluation: Mapping, report: Report) -> bool:
    """Turn ``runner`` or ``total_epochs`` into the loops, in place.

    Args:
        cfg: the whole config.
        evaluation: what :func:`~densehead.apis.upgrade.data.upgrade_evaluation` left.
        report: told of every change.

    Returns:
        Whether the training counts epochs rather than iterations.
    """
    loop = cfg.get("train_cfg") if isinstance(cfg.get("train_cfg"), dict) else {}
    new: dict[str, Any] = {}
    total = {name: cfg.pop(name) for name in ("total_epochs", "total_iters") if isinstance(cfg.get(name), int)}
    if "max_epochs" in loop and total.get("total_epochs") == loop["max_epochs"]:
        total = {}  # a variable of one of today's configs
    for name, value in total.items():
        new[f"max_{name.removeprefix('total_')}"] = value
        report.change(name, "train_cfg = {}", dict(new))
    runner = cfg.get("runner")
    if isinstance(runner, dict) and {"type", "max_epochs", "max_iters"} & set(runner):
        runner = cfg.pop("runner")
        length = {name: runner[name] for name in ("max_epochs", "max_iters") if name in runner}
        if length:
            new = length
        report.change("runner", "train_cfg = {}", {"type": _loop(new or loop), **new})
    by_epoch = "max_iters" not in {**loop, **new}
    _validation(cfg, evaluation, new, report)
    if new and not {"max_epochs", "max_iters"} & {*loop, *new}:
        report.remark("runner", "the config does not say how long to train: set train_cfg.max_epochs")
    if new:
        cfg["train_cfg"] = {"type": _loop({**loop, **new}), **{k: v for k, v in loop.items() if k != "type"}, **new}
    if not by_epoch:
        _by_iteration(cfg)
    return by_epoch


def _loop(settings: Mapping) -> str:
    return "IterBasedTrainLoop" if "max_iters" in settings else "EpochBasedTrainLoop"


def _validation(cfg: dict, evaluation: Mapping, new: dict, report: Report) -> None:
    names = {"interval": "val_interval", "start": "val_begin", "dynamic_intervals": "dynamic_intervals"}
    said = {new_name: evaluation[old] for old, new_name in names.items() if evaluation.get(old) is not None}
    for old, new_name in names.items():
        if new_name in said:
            report.change(f"evaluation.{old}", f"train_cfg.{new_name} = {{}}", said[new_name])
    if new and cfg.get("val_dataloader"):
        said.setdefault("val_interval", 1)
    new.update(said)
    for split, loop in (("val", "ValLoop"), ("test", "TestLoop")):
        if cfg.get(f"{split}_dataloader") and not cfg.get(f"{split}_cfg") and cfg.get(f"{split}_evaluator"):
            cfg[f"{split}_cfg"] = {"type": loop}


def _by_iteration(cfg: dict) -> None:
    """Let loader and log count iterations, as the loop does."""
    loader = cfg.get("train_dataloader") or {}
    if (loader.get("sampler") or {}).get("type") == "DefaultSampler":
        loader["sampler"]["type"] = "InfiniteSampler"
    cfg["log_processor"] = {"type": "LogProcessor", **(cfg.get("log_processor") or {}), "by_epoch": False}


# ---- learning rate -------------------------------------------------------------------------------------------------


def upgrade_learning_rate(cfg: dict, by_epoch: bool, report: Report) -> None:
    """Turn ``lr_config`` into ``param_scheduler``, in place.

    Args:
        cfg: the whole config, with today's ``train_cfg``.
        by_epoch: whether the training counts epochs.
        report: told of every change.
    """
    if cfg.get("momentum_config") is not None:
        report.remark("momentum_config", "write it as a scheduler of momentum in param_scheduler by hand")
    cfg.pop("momentum_config", None)
    settings = cfg.get("lr_config")
    if not isinstance(settings, dict):
        cfg.pop("lr_config", None)
        return
    settings = dict(cfg.pop("lr_config"))
    loop = cfg.get("train_cfg") or {}
    end = loop.get("max_epochs", loop.get("max_iters"))
    schedulers = _warmup(settings, report)
    schedulers += _policy(settings, end, by_epoch, report)
    for key in settings:
        report.remark(f"lr_config.{key}", "has no counterpart; it is left out")
    cfg["param_scheduler"] = schedulers
    for one in schedulers:
        report.change("lr_config", "an entry of param_scheduler: {}", one)
    if not schedulers:
        report.change("lr_config", "param_scheduler = []")


def _warmup(settings: dict, report: Report) -> list[dict]:
    keys = ("warmup", "warmup_iters", "warmup_ratio", "warmup_by_epoch")
    kind, length, ratio, by_epoch = (settings.pop(key, None) for key in keys)
    if kind is None or not length:
        return []
    ratio = 0.1 if ratio is None else ratio
    span = {"by_epoch": bool(by_epoch), "begin": 0, "end": length}
    if kind == "constant":
        return [{"type": "ConstantLR", "factor": ratio, **span}]
    if kind == "exp":
        report.remark("lr_config.warmup", "there is no warmup 'exp'; a linear one from the same factor is taken")
    return [{"type": "LinearLR", "start_factor": ratio, **span}]


def _policy(settings: dict, end: int | None, counts_epochs: bool, report: Report) -> list[dict]:
    policy = settings.pop("policy", "step")
    name = policy.removesuffix("LrUpdaterHook").lower()
    if name == "fixed":
        return []
    if name not in _POLICIES:
        report.remark("lr_config.policy", f"{policy!r} is not translated: write param_scheduler by hand")
        settings.clear()
        return []
    of_epochs = settings.pop("by_epoch", counts_epochs)
    span = {"by_epoch": of_epochs, "begin": 0, **({} if end is None else {"end": end})}
    new = _POLICIES[name](settings, end)
    if counts_epochs and not of_epochs:
        if new["type"] in ("CosineAnnealingLR", "PolyLR"):  # over the whole training, whose iterations are not known
            span.update(by_epoch=True, convert_to_iter_based=True)
        else:
            span.pop("end", None)
    return [{**new, **span}]


def _step_policy(settings: dict, end: int | None) -> dict:
    steps, gamma = settings.pop("step"), settings.pop("gamma", 0.1)
    if isinstance(steps, int):
        return {"type": "StepLR", "step_size": steps, "gamma": gamma}
    return {"type": "MultiStepLR", "milestones": list(steps), "gamma": gamma}


def _cosine(settings: dict, end: int | None) -> dict:
    new = {"type": "CosineAnnealingLR", "T_max": end, **_least(settings)}
    return {key: value for key, value in new.items() if value is not None}


def _poly(settings: dict, end: int | None) -> dict:
    return {"type": "PolyLR", "power": settings.pop("power", 1.0), **_least(settings)}


def _exponential(settings: dict, end: int | None) -> dict:
    return {"type": "ExponentialLR", "gamma": settings.pop("gamma")}


def _restarts(settings: dict, end: int | None) -> dict:
    new = {"type": "CosineRestartLR", "periods": list(settings.pop("periods"))}
    new["restart_weights"] = list(settings.pop("restart_weights", [1] * len(new["periods"])))
    return {**new, **_least(settings)}


def _least(settings: dict) -> dict:
    names = {"min_lr": "eta_min", "min_lr_ratio": "eta_min_ratio"}
    return {new: settings.pop(old) for old, new in names.items() if old in settings}


_POLICIES: dict[str, Callable[[dict, int | None], dict]] = {
    "step": _step_policy,
    "cosineannealing": _cosine,
    "cosine": _cosine,
    "poly": _poly,
    "exp": _exponential,
    "cosinerestart": _restarts,
}
