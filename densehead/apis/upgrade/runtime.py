"""What surrounds a training in mmdetection 2.x: checkpoints, log, hooks, machine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from densehead.apis.upgrade.data import best_metric
from densehead.apis.upgrade.report import Report, merge
from densehead.registry import HOOKS

_BACKENDS = {
    "TensorboardLoggerHook": "TensorboardVisBackend",
    "WandbLoggerHook": "WandbVisBackend",
    "MMDetWandbHook": "WandbVisBackend",
    "MlflowLoggerHook": "MLflowVisBackend",
    "ClearMLLoggerHook": "ClearMLVisBackend",
    "NeptuneLoggerHook": "NeptuneVisBackend",
    "DvcliveLoggerHook": "DVCLiveVisBackend",
}
# Always there: see densehead.apis.config.TRAINING_HOOKS
_SERVED_HOOKS = ("NumClassCheckHook", "CheckInvalidLossHook")
# key, where it goes today
_MOVED = {
    "dist_params": "env_cfg.dist_cfg",
    "cudnn_benchmark": "env_cfg.cudnn_benchmark",
    "opencv_num_threads": "env_cfg.mp_cfg.opencv_num_threads",
    "mp_start_method": "env_cfg.mp_cfg.mp_start_method",
    "seed": "randomness.seed",
    "deterministic": "randomness.deterministic",
}
_NEEDLESS = ("gpu_ids", "gpus", "device", "img_norm_cfg")


def upgrade_hooks(cfg: dict, evaluation: Mapping, by_epoch: bool, report: Report) -> None:
    """Turn ``checkpoint_config``, ``log_config`` and ``custom_hooks`` into today's, in place."""
    hooks: dict[str, Any] = {}
    checkpoint = cfg.pop("checkpoint_config", None)
    best = {key: evaluation[key] for key in ("save_best", "rule", "greater_keys", "less_keys") if key in evaluation}
    if isinstance(best.get("save_best"), str):
        best["save_best"] = best_metric(cfg, best["save_best"])
    if checkpoint is not None or best:
        old = {key: value for key, value in (checkpoint or {}).items() if key not in ("create_symlink", "meta")}
        hooks["checkpoint"] = {"type": "CheckpointHook", **({} if by_epoch else {"by_epoch": False}), **old, **best}
        key = "checkpoint_config" + (", evaluation.save_best" if best else "")
        report.change(key, "default_hooks.checkpoint = {}", hooks["checkpoint"])
    log = cfg.get("log_config")
    if isinstance(log, dict):
        hooks["logger"] = {"type": "LoggerHook", "interval": cfg.pop("log_config").get("interval", 10)}
        report.change("log_config.interval", "default_hooks.logger = {}", hooks["logger"])
        _backends(cfg, log.get("hooks") or [], report)
    if hooks:
        default = cfg.setdefault("default_hooks", {})
        merge(default, hooks)
        default.setdefault("visualization", {"type": "DetVisualizationHook"})
    if cfg.get("custom_hooks"):
        cfg["custom_hooks"] = [hook for old in cfg["custom_hooks"] for hook in _custom_hook(old, report)]
    if "custom_hooks" in cfg and not cfg["custom_hooks"]:
        del cfg["custom_hooks"]


def _backends(cfg: dict, loggers: list, report: Report) -> None:
    backends = [{"type": "LocalVisBackend"}]
    for logger in loggers:
        kind = logger["type"]
        if kind in _BACKENDS:
            kept = {
                key: logger[key] for key in ("init_kwargs", "save_dir") if key in logger and kind != "MMDetWandbHook"
            }
            backends.append({"type": _BACKENDS[kind], **kept})
            report.change(f"log_config.hooks {kind}", "an entry of visualizer.vis_backends: {}", backends[-1])
        elif kind != "TextLoggerHook":
            report.remark(f"log_config.hooks {kind}", "has no counterpart; it is left out")
    if len(backends) > 1 or not cfg.get("visualizer"):
        visualizer = {"type": "DetLocalVisualizer", "vis_backends": backends, "name": "visualizer"}
        cfg["visualizer"] = {**(cfg.get("visualizer") or {}), **visualizer}


def _custom_hook(hook: dict, report: Report) -> list[dict]:
    kind = hook.get("type")
    if kind in _SERVED_HOOKS:
        report.change(f"custom_hooks {kind}", "is not needed: tools/train.py adds it", minor=True)
        return []
    if kind in ("EMAHook", "ExpMomentumEMAHook") and "ema_type" not in hook:
        return [_average(hook, report)]
    if kind not in HOOKS:
        report.remark(f"custom_hooks {kind}", "there is no such hook; it is kept as it is")
    return [hook]


def _average(hook: dict, report: Report) -> dict:
    """Return the hook that averages weights; mmdetection 2.x kept the averages among the model's buffers."""
    new = {"type": "EMAHook", "momentum": hook.get("momentum", 0.0002)}
    if hook["type"] == "ExpMomentumEMAHook":
        new.update(ema_type="ExpMomentumEMA", gamma=hook.get("total_iter", 2000))
    if "skip_buffers" in hook:
        new["update_buffers"] = not hook["skip_buffers"]
    new.update({key: hook[key] for key in ("interval", "priority") if key in hook})
    if hook.get("warm_up"):
        report.remark(f"custom_hooks {hook['type']}.warm_up", "has no counterpart; begin_iter is the nearest")
    if new != hook:
        report.change(f"custom_hooks {hook['type']}", "{}", new, minor=set(new) == set(hook))
    return new


def upgrade_environment(cfg: dict, report: Report) -> None:
    """Turn the keys about machine, processes and start into today's, in place."""
    for old, new in _MOVED.items():
        if old in cfg:
            value = cfg.pop(old)
            if value is not None:
                _put(cfg, new, value)
                report.change(old, f"{new} = {{}}", value, minor=True)
    _start(cfg, report)
    flow = cfg.pop("workflow", None)
    if flow:
        if any(step[0] == "val" for step in flow):
            report.remark("workflow", "the loss on the validation set is no longer computed; it is left out")
        report.change("workflow", "is not needed: train_cfg says it", minor=True)
    for key in _NEEDLESS:
        if key in cfg:
            del cfg[key]
            report.change(key, "is not needed", minor=True)


def _start(cfg: dict, report: Report) -> None:
    checkpoint = cfg.pop("resume_from", None)
    automatic = cfg.pop("auto_resume", None)
    if checkpoint is not None:
        cfg.update(load_from=checkpoint, resume=True)
        report.change("resume_from", "{}", {"load_from": checkpoint, "resume": True})
        report.remark("resume_from", "a checkpoint of mmdetection 2.x can be started from, but not resumed")
    elif automatic:
        cfg["resume"] = True
        report.change("auto_resume", "{}", {"resume": True})


def _put(cfg: dict, path: str, value: Any) -> None:
    *parents, name = path.split(".")
    for parent in parents:
        if not isinstance(cfg.get(parent), dict):
            cfg[parent] = {}
        cfg = cfg[parent]
    if isinstance(value, dict):
        merge(cfg.setdefault(name, {}), value)
    else:
        cfg[name] = value
