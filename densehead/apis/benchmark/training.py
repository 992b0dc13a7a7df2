"""How fast a whole config trains, and where the time of its steps goes."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.hooks import Hook

from densehead.apis.benchmark import drawn, machine  # noqa: F401 (drawn registers its data set)
from densehead.apis.benchmark.stopwatch import ConvolutionShare, Stopwatch, clock
from densehead.apis.config import prepare_training
from densehead.apis.options import load_config
from densehead.apis.run import train
from densehead.registry import HOOKS
from densehead.typing import Size

UNNEEDED = ("checkpoint", "summary", "visualization")  # hooks that write what nobody keeps
ENDLESS = 10**6


@dataclass(frozen=True)
class TrainOptions:
    """What is measured.

    Attributes:
        config: file of the config.
        iters: iterations of which the speed is taken.
        warmup: iterations before, which do not count.
        parts: iterations afterwards whose parts are timed.
        profiled: iterations after these in which convolutions are told from the rest; none for 0.
        drawn: height and width of images that are drawn and kept in memory, in place of the config's data; None for
            the config's own.
        cfg_options: overrides of the config.
        name: what the row of the table is called; else the config and the overrides.
        safe: whether the config is a stranger's, see :func:`densehead.apis.load_config`.
    """

    config: str
    iters: int = 20
    warmup: int = 5
    parts: int = 5
    profiled: int = 0
    drawn: Size | None = None
    cfg_options: Mapping | None = None
    name: str | None = None
    safe: bool = False

    @property
    def label(self) -> str:
        """What the row of the table is called."""
        overrides = [f"{key}={value}" for key, value in (self.cfg_options or {}).items()]
        return self.name or " ".join([Path(self.config).name, *overrides])

    def check(self) -> None:
        """Raise a ValueError that names the option that cannot be."""
        for name, least in (("iters", 1), ("warmup", 0), ("parts", 1), ("profiled", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name} must be at least {least}, but got {getattr(self, name)}")

    @property
    def steps(self) -> int:
        """How many iterations there are in all."""
        return self.warmup + self.iters + self.parts + self.profiled


class Measured(Exception):
    """Ends a training; brings along what was measured."""

    def __init__(self, row: dict) -> None:
        super().__init__("measured")
        self.row = row


def measure_training(options: TrainOptions, advance: Callable[[str], object] = lambda what: None) -> dict:
    """Train a config for a few iterations, without weights to load, and say how fast.

    Args:
        options: what to measure.
        advance: called before each iteration.

    Returns:
        What is written as JSON: ``kind``, ``machine``, ``options`` and ``rows`` of one, see :class:`MeterHook`.

    Raises:
        ValueError, TypeError, KeyError, FileNotFoundError: see :func:`densehead.apis.train`.
    """
    options.check()
    cfg = load_config(options.config, options.cfg_options, safe=options.safe)
    device = get_device()
    MeterHook.pending = (options, advance)
    with tempfile.TemporaryDirectory() as folder:
        _fit(cfg, options, folder)
        try:
            train(cfg)
        except Measured as measured:
            row = measured.row
        else:
            raise ValueError(f"{options.config}: the training ended before {options.steps} iterations; lower --iters")
        finally:
            MeterHook.pending = None
    row = {"name": options.label, "config": Path(options.config).name, **row}
    return {"kind": "train", "machine": machine.describe(device), "options": asdict(options), "rows": [row]}


def _fit(cfg: Config, options: TrainOptions, folder: str) -> None:
    """Complete a config for training, less what the speed does not depend on; in place."""
    cfg.load_from, cfg.resume, cfg.log_level = None, False, "WARNING"
    cfg.default_hooks = {**(cfg.get("default_hooks") or {}), **dict.fromkeys(UNNEEDED)}
    for name in ("val_cfg", "val_dataloader", "val_evaluator"):
        cfg[name] = None
    if cfg.get("model") is not None:
        _forget_weights(cfg.model)
    if cfg.get("train_cfg") is not None:
        cfg.train_cfg["max_iters" if "max_iters" in cfg.train_cfg else "max_epochs"] = ENDLESS
    if options.drawn is not None and cfg.get("train_dataloader") is not None:
        _draw_data(cfg, options)
    cfg.custom_hooks = [*(cfg.get("custom_hooks") or []), {"type": "densehead.MeterHook"}]
    prepare_training(cfg, work_dir=folder)


def _forget_weights(cfg: ConfigDict) -> None:
    """Take pretrained weights out of a config: speed does not depend on them, and they would have to be fetched."""
    for key, value in list(cfg.items()):
        if key == "init_cfg" and isinstance(value, dict) and value.get("type") == "Pretrained":
            cfg[key] = None
        elif isinstance(value, dict):
            _forget_weights(value)


def _draw_data(cfg: Config, options: TrainOptions) -> None:
    loader = cfg.train_dataloader
    loader.dataset = {
        "type": "densehead.DrawnScenes",
        "size": options.drawn,
        "num_classes": cfg.model.bbox_head.num_classes,
        "length": max(64, loader.get("batch_size", 1)),
    }
    loader.pop("batch_sampler", None)


@HOOKS.register_module()
class MeterHook(Hook):
    """Measures a training from within, then ends it by raising :class:`Measured`.

    Its row has ``batch`` (images in a step), ``images_per_s`` and ``step_ms`` (median) of undisturbed iterations;
    ``data_ms``, the mean time that a step waits for its images, which is part of it; ``parts_ms``, means of the parts
    of further iterations; ``head_loss_share``, how much of these the head's assignment, losses and their gradients are;
    ``not_convolutions_share`` and ``peak_mb`` (on a GPU), or None.
    """

    priority = "LOWEST"
    pending: tuple[TrainOptions, Callable] | None = None  # what :func:`measure_training` hands over

    def __init__(self) -> None:
        self.options, self.advance = self.pending
        self.step = 0
        self.batches: list[int] = []
        self.waits: list[float] = []
        self.spans: list[float] = []
        self.part_spans: list[float] = []

    def before_train(self, runner) -> None:
        """Put the stopwatch into model and optimizer."""
        self.device = "cpu" if next(runner.model.parameters()).device.type == "cpu" else "cuda"
        self.watch = Stopwatch(self.device)
        self.shares = ConvolutionShare(self.device) if self.options.profiled else None
        self.watch.wrap(runner.model.data_preprocessor, "forward", "preprocess")
        self.watch.wrap(runner.model, "_run_forward", "forward")
        self.watch.wrap(runner.optim_wrapper, "backward", "backward")
        for name in ("step", "zero_grad"):
            self.watch.wrap(runner.optim_wrapper, name, "optimizer")
        if hasattr(getattr(runner.model, "bbox_head", None), "loss_by_feat"):
            self.watch.wrap_head(runner.model.bbox_head)
        self.end = self._now()

    def before_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None) -> None:
        """Note how long the step had to wait for its images."""
        self.advance(self._phase())
        self.batches.append(len(data_batch["inputs"]))
        self.waits.append(time.perf_counter() - self.end)
        self.watch.is_running = self._phase() == "parts"

    def after_train_iter(self, runner, batch_idx: int, data_batch: dict | None = None, outputs=None) -> None:
        """Note how long the step took; end the training after the last."""
        phase, options = self._phase(), self.options
        self.step += 1
        # without waiting for a GPU, but where the counted iterations begin and end
        is_border = self.step in (options.warmup, options.warmup + options.iters)
        end = self._now() if is_border or phase != "speed" else time.perf_counter()
        if phase in ("speed", "parts"):
            (self.spans if phase == "speed" else self.part_spans).append(end - self.end)
        if self.step == options.warmup + options.iters:
            self.peak = torch.cuda.max_memory_allocated() / 1e6 if self.device != "cpu" else None
        if self.step == options.steps:
            shares = self.shares.stop() if self.shares else None
            raise Measured(self._row(shares))
        if self.step == options.steps - options.profiled:
            self.shares.start()
        self.end = self._now() if self._phase() != phase else end

    def _now(self) -> float:
        return clock(self.device)

    def _phase(self) -> str:
        """What the next iteration is for."""
        options = self.options
        ends = (options.warmup, options.iters, options.parts, options.profiled)
        step = self.step
        for name, length in zip(("warm-up", "speed", "parts", "profile"), ends, strict=True):
            if step < length:
                return name
            step -= length
        return "profile"

    def _row(self, shares: dict | None) -> dict:
        options = self.options
        counted = slice(options.warmup, options.warmup + options.iters)
        in_parts = slice(counted.stop, counted.stop + options.parts)
        parts = {name: 1e3 * seconds / options.parts for name, seconds in self.watch.seconds.items()}
        parts["data"] = 1e3 * statistics.mean(self.waits[in_parts])
        step = 1e3 * statistics.mean(self.part_spans)
        head = sum(value for name, value in parts.items() if name.startswith("head loss"))
        return {
            "device": self.device,
            "batch": round(statistics.mean(self.batches[counted]), 2),
            "images_per_s": sum(self.batches[counted]) / sum(self.spans),
            "step_ms": 1e3 * statistics.median(self.spans),
            "data_ms": 1e3 * statistics.mean(self.waits[counted]),
            "parts_ms": {**parts, "step": step},
            "head_loss_share": head / step,
            "profile": shares,
            "not_convolutions_share": None if not shares else 1 - shares["convolutions_ms"] / shares["total_ms"],
            "peak_mb": self.peak,
        }
