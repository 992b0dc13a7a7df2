"""Completing a config for a training or a test."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict

from densehead.apis.upgrade import check_spelling
from densehead.engine.files import ATOMIC, find_last_checkpoint

# Hooks that mmengine adds by itself, which None switches off
MMENGINE_HOOKS = ("runtime_info", "timer", "sampler_seed", "logger", "param_scheduler", "checkpoint")
TRAINING_HOOKS = {
    "seeds": {"type": "densehead.SeedHook"},
    "check_classes": {"type": "densehead.NumClassCheckHook"},
    "check_checkpoint": {"type": "densehead.CheckpointCheckHook"},
    "check_losses": {"type": "densehead.CheckInvalidLossHook"},
    "assignment": {"type": "densehead.AssignmentHook"},
    "memory": {"type": "densehead.HostMemoryHook"},
    "summary": {"type": "densehead.TrainingSummaryHook"},
}
TEST_HOOKS = {name: TRAINING_HOOKS[name] for name in ("check_classes", "check_checkpoint")}


def prepare_training(
    cfg: Config,
    *,
    work_dir: str | None = None,
    amp: bool = False,
    auto_scale_lr: bool = False,
    resume: str | None = None,
) -> Config:
    """Complete a config for training, in place: what the flags of ``tools/train.py`` say, and densehead's hooks.

    The hooks are those of ``TRAINING_HOOKS``, unless ``default_hooks`` has an entry of that name (None for none);
    checkpoints are written atomically and the best one is kept, unless the config says how.

    Args:
        cfg: of a detector.
        work_dir: where everything is written; else that of the config; else ``work_dirs/<name of the config file>``.
        amp: train in mixed precision.
        auto_scale_lr: scale the learning rate by the batch size.
        resume: a checkpoint to go on from, or ``'auto'`` for the last one in the work dir, if there is one.

    Raises:
        FileNotFoundError: ``resume`` or ``load_from`` is no file.
        ValueError: ``auto_scale_lr`` without a ``base_batch_size`` in the config, or one written for mmdetection 2.x.
    """
    check_spelling(cfg, cfg.filename)
    _set_work_dir(cfg, work_dir)
    if amp and cfg.get("optim_wrapper") is not None:
        cfg.optim_wrapper.type = "AmpOptimWrapper"
        cfg.optim_wrapper.setdefault("loss_scale", "dynamic")
    if auto_scale_lr:
        if "base_batch_size" not in (cfg.get("auto_scale_lr") or {}):
            raise ValueError("--auto-scale-lr needs auto_scale_lr=dict(base_batch_size=...) in the config")
        cfg.auto_scale_lr.enable = True
    if resume is not None:
        cfg.load_from = find_last_checkpoint(cfg.work_dir) if resume == "auto" else resume
        cfg.resume = cfg.load_from is not None
    require_checkpoint(cfg.get("load_from"), "--resume" if cfg.get("resume") else "load_from")
    _add_hooks(cfg, TRAINING_HOOKS)
    if cfg.default_hooks.get("checkpoint", True) is not None:
        checkpoint = cfg.default_hooks.setdefault("checkpoint", ConfigDict(type="CheckpointHook"))
        if cfg.get("val_evaluator") is not None:
            checkpoint.setdefault("save_best", "auto")
        if not ({"backend_args", "file_client_args"} & set(checkpoint)) and "://" not in checkpoint.get("out_dir", ""):
            checkpoint.backend_args = {"backend": ATOMIC}
    return _fit_machine(cfg)


def prepare_test(cfg: Config, checkpoint: str, *, work_dir: str | None = None, tta: bool = False) -> Config:
    """Complete a config for a test of a checkpoint, in place.

    Args:
        cfg: of a detector.
        checkpoint: file to test.
        work_dir: as for :func:`prepare_training`.
        tta: test on flipped images too, or as ``tta_model`` and ``tta_pipeline`` of the config say.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: the config is written for mmdetection 2.x.
    """
    check_spelling(cfg, cfg.filename)
    _set_work_dir(cfg, work_dir)
    require_checkpoint(checkpoint, "the checkpoint")
    cfg.load_from = checkpoint
    cfg.resume = False
    _add_hooks(cfg, TEST_HOOKS)
    if tta:
        _add_tta(cfg)
    return _fit_machine(cfg)


def show_predictions(cfg: Config, *, show: bool = False, show_dir: str | None = None, wait_time: float = 2.0) -> Config:
    """Let the visualization hook of a config draw every tested image, in place."""
    hook = cfg.default_hooks.get("visualization") or ConfigDict(type="densehead.DetVisualizationHook")
    hook.draw = True
    if show:
        hook.update(show=True, wait_time=wait_time)
    if show_dir is not None:
        hook.test_out_dir = show_dir
    cfg.default_hooks.visualization = hook
    return cfg


def require_checkpoint(path: str | None, key: str) -> None:
    """Raise a FileNotFoundError that names ``key`` where ``path`` is a local file that is not there."""
    if path is None or "://" in path or os.path.isfile(os.path.expanduser(path)):
        return
    folder = Path(path).parent
    kept = sorted(one.name for one in folder.glob("*.pth")) if folder.is_dir() else []
    hint = f"; in {folder} there are {', '.join(kept[:5])}" if kept else ""
    raise FileNotFoundError(f"{key}: there is no checkpoint {path}{hint}")


def tested_dataset(cfg: Config) -> ConfigDict:
    """Return the config of the data set that is tested, out of the wrappers around it."""
    dataset = cfg.test_dataloader.dataset
    while "dataset" in dataset:
        dataset = dataset.dataset
    return dataset


def transform_name(step: Mapping) -> str:
    """Return the name of the class of a pipeline's step, without its scope."""
    kind = step["type"]
    return kind.rpartition(".")[2] if isinstance(kind, str) else kind.__name__


def _set_work_dir(cfg: Config, work_dir: str | None) -> None:
    name = Path(cfg.filename).stem if cfg.filename else "run"
    cfg.work_dir = work_dir or cfg.get("work_dir") or os.path.join("work_dirs", name)


def _add_hooks(cfg: Config, hooks: Mapping[str, dict]) -> None:
    given = cfg.get("default_hooks") or {}
    merged = {**copy.deepcopy(dict(hooks)), **given}
    cfg.default_hooks = {name: hook for name, hook in merged.items() if hook is not None or name in MMENGINE_HOOKS}


def _add_tta(cfg: Config) -> None:
    """Wrap the model and the pipeline; without ``tta_model`` and ``tta_pipeline`` images are flipped horizontally."""
    dataset = tested_dataset(cfg)
    if "tta_model" not in cfg:
        nms = {"type": "nms", "iou_threshold": 0.5}
        cfg.tta_model = {"type": "densehead.DetTTAModel", "tta_cfg": {"nms": nms, "max_per_img": 100}}
    if "tta_pipeline" not in cfg:
        *before, pack = copy.deepcopy(list(dataset.pipeline))
        keys = pack.get("meta_keys", ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"))
        pack["meta_keys"] = (*keys, *(key for key in ("flip", "flip_direction") if key not in keys))
        flips = [{"type": "RandomFlip", "prob": prob} for prob in (1.0, 0.0)]
        cfg.tta_pipeline = [*before, {"type": "TestTimeAug", "transforms": [flips, [pack]]}]
    cfg.model = {**cfg.tta_model, "module": cfg.model}
    dataset.pipeline = cfg.tta_pipeline


def _fit_machine(cfg: Config) -> Config:
    """Say how the data loaders are to work on this machine, and how processes, where there are several.

    What PyTorch refuses or warns of is left out: persistence of no workers, what is for GPUs that are not there.
    """
    for name in ("train_dataloader", "val_dataloader", "test_dataloader"):
        loader = cfg.get(name) or {}
        if loader.get("num_workers", 0):
            loader.setdefault("collate_fn", {"type": "densehead.packed_collate"})
        else:
            loader.pop("persistent_workers", None)
        if not torch.cuda.is_available():
            loader.pop("pin_memory", None)
    if not torch.cuda.is_available() and cfg.get("launcher", "none") != "none":
        wrapper = {"type": "MMDistributedDataParallel", "device_ids": None, "broadcast_buffers": False}
        cfg.setdefault("model_wrapper_cfg", wrapper)
    return cfg
