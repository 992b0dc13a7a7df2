"""Checks of the length of a training and of its learning rate."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from densehead.analysis.doctor.findings import Example, Finding, Severity, counted

#: The usual learning rates of SGD, for 16 images a step: from a tenth to eight times that of most papers (0.01).
SGD_RATES = (0.001, 0.08)
#: The usual ones of Adam and its kin, which depend little on the batch.
ADAM_RATES = (1e-5, 5e-3)
BATCH = 16
#: The batch may differ by this factor from the one that a learning rate is for.
BATCH_FACTOR = 1.5
#: Fewer steps than this hardly train a detector, even from pretrained weights.
FEW_STEPS = 300
#: A warm-up of a larger part of the training than this is long.
WARMUP = 0.25
_WARMUPS = ("LinearLR", "ConstantLR", "QuadraticWarmupLR")


@dataclass(frozen=True)
class Plan:
    """How long a training is.

    Attributes:
        images: that an epoch shows.
        gpus: processes that train.
        batch_size: images of a step on each.
        accumulated: steps whose gradients are added up.
        steps: of an epoch.
        epochs: None where the training counts iterations.
        iterations: of all.
    """

    images: int
    gpus: int
    batch_size: int
    accumulated: int
    steps: int
    epochs: int | None
    iterations: int

    @property
    def batch(self) -> int:
        """Images of a step on all GPUs together."""
        return self.gpus * self.batch_size

    @classmethod
    def of(cls, cfg: Mapping, images: int, gpus: int) -> Plan | None:
        """Return the plan of a config; None where it does not say how long to train."""
        loader, loop = cfg.get("train_dataloader") or {}, cfg.get("train_cfg") or {}
        batch_size = int(loader.get("batch_size", 1))
        sampler = loader.get("batch_sampler") or {}
        drops = loader.get("drop_last", False) or sampler.get("drop_last", False)
        share = math.ceil(images / gpus)
        steps = share // batch_size if drops else math.ceil(share / batch_size)
        epochs, iterations = loop.get("max_epochs"), loop.get("max_iters")
        if epochs is None and iterations is None:
            return None
        accumulated = int((cfg.get("optim_wrapper") or {}).get("accumulative_counts", 1))
        total = int(iterations) if iterations is not None else steps * int(epochs)
        return cls(images, gpus, batch_size, accumulated, steps, None if iterations is not None else epochs, total)

    def told(self) -> str:
        """Return it in a sentence."""
        gpus = f"{self.gpus} GPUs x {self.batch_size}" if self.gpus > 1 else str(self.batch_size)
        length = f"{counted(self.iterations, 'step')} of {gpus} images"
        if self.epochs is not None:
            length += f": {counted(self.epochs, 'epoch')} of {counted(self.steps, 'step')}"
        return length + f" ({counted(self.images, 'image')} an epoch)"


def check_length(cfg: Mapping, plan: Plan) -> Iterable[Finding]:
    """Check that there are steps, enough of them, and validations."""
    if plan.steps == 0 and plan.images:
        what = f"an epoch has no step: {counted(plan.images, 'image')}, batches of {plan.batch_size} and drop_last=True"
        yield Finding("no-step", Severity.ERROR, what, examples=(_at("train_dataloader.batch_size"),))
    elif 0 < plan.iterations < FEW_STEPS:
        what = f"the training has {counted(plan.iterations, 'step')} in all"
        yield Finding("few-steps", Severity.WARNING, what, examples=(_at("train_cfg", plan.told()),))
    loop = cfg.get("train_cfg") or {}
    length = plan.epochs if plan.epochs is not None else plan.iterations
    if cfg.get("val_dataloader") is None:
        what = "nothing is validated: there is no val_dataloader"
        yield Finding("never-validated", Severity.NOTE, what, todo="Add one to see how the training does.")
    elif loop.get("val_begin", 1) > length:
        what = f"nothing is validated: val_begin={loop['val_begin']}, but the training ends at {length}"
        yield Finding("never-validated", Severity.WARNING, what, examples=(_at("train_cfg.val_begin"),))


def check_rate(cfg: Mapping, plan: Plan) -> Iterable[Finding]:
    """Compare the learning rate with the batch."""
    optimizer = (cfg.get("optim_wrapper") or {}).get("optimizer") or {}
    rate, scaling = optimizer.get("lr"), cfg.get("auto_scale_lr") or {}
    if not isinstance(rate, int | float) or plan.batch == 0:
        return
    base, batch = scaling.get("base_batch_size"), plan.batch * plan.accumulated
    key = "optim_wrapper.optimizer.lr"
    if base and scaling.get("enable"):
        rate *= plan.batch / base
    elif base and not 1 / BATCH_FACTOR <= batch / base <= BATCH_FACTOR:
        what = (
            f"the learning rate {rate:g} is for {base} images a step, but a step has {batch}; in proportion it were "
            f"{rate * batch / base:.3g}"
        )
        yield Finding("lr-batch", Severity.WARNING, what, examples=(_at(key, _batch(plan)),))
        return
    kind = _name(optimizer)
    if kind == "SGD":
        per_batch, (low, high) = rate * BATCH / batch, SGD_RATES
        usual = f"for {BATCH} images, in proportion {per_batch:.3g}, {low:g} to {high:g} is usual"
    elif kind.startswith("Adam"):
        per_batch, (low, high) = rate, ADAM_RATES
        usual = f"{low:g} to {high:g} is usual"
    else:
        return
    if not low <= per_batch <= high:
        size = "small" if per_batch < low else "large"
        what = f"the learning rate {rate:g} of {kind} is {size} for {counted(batch, 'image')} a step: {usual}"
        yield Finding("lr-unusual", Severity.WARNING, what, examples=(_at(key, _batch(plan)),))


def check_schedulers(cfg: Mapping, plan: Plan) -> Iterable[Finding]:
    """Compare the schedulers of the learning rate with the length of the training."""
    schedulers = cfg.get("param_scheduler") or []
    schedulers = [schedulers] if isinstance(schedulers, Mapping) else schedulers
    if plan.iterations == 0 or not all(isinstance(one, Mapping) for one in schedulers):
        return
    last = None
    for index, one in enumerate(schedulers):
        key = f"param_scheduler.{index}"
        if plan.epochs is None and one.get("by_epoch", True):
            what = f"{_name(one)} counts epochs, of which a training of iterations has none: it never steps"
            yield Finding("schedule-unit", Severity.ERROR, what, examples=(_at(key),))
            continue
        if _is_warmup(one):
            yield from _check_warmup(one, key, plan)
            continue
        yield from _check_milestones(one, key, plan)
        last = (one, key)
    if last is not None and _name(last[0]) not in ("MultiStepLR", "StepLR", "ExponentialLR"):
        yield from _check_end(*last, plan)


def _check_warmup(one: Mapping, key: str, plan: Plan) -> Iterable[Finding]:
    length = _iterations(one, one.get("end", math.inf), plan) - _iterations(one, one.get("begin", 0), plan)
    if length <= WARMUP * plan.iterations:
        return
    severity = Severity.ERROR if length >= plan.iterations else Severity.WARNING
    told = "has no end" if math.isinf(length) else f"takes {length:,.0f} of {plan.iterations:,} steps"
    detail = f"end={one.get('end')}, by_epoch={one.get('by_epoch', True)}"
    yield Finding("warmup-long", severity, f"the warm-up ({_name(one)}) {told}", examples=(_at(key, detail),))


def _check_milestones(one: Mapping, key: str, plan: Plan) -> Iterable[Finding]:
    milestones = one.get("milestones") or ()
    late = [milestone for milestone in milestones if _iterations(one, milestone, plan) >= plan.iterations]
    if late:
        end = plan.epochs if one.get("by_epoch", True) else plan.iterations
        what = f"milestones of the learning rate, {late}, lie behind the end of the training, {end}"
        yield Finding(
            "milestone-late", Severity.WARNING, what, count=len(late), total=len(milestones), examples=(_at(key),)
        )


def _check_end(one: Mapping, key: str, plan: Plan) -> Iterable[Finding]:
    begin = one.get("begin", 0)
    end = begin + one["T_max"] if one.get("T_max") else one.get("end", math.inf)
    part = _iterations(one, end, plan) / plan.iterations
    if math.isinf(part) or 0.99 <= part <= 1.01:
        return
    unit = "epoch" if one.get("by_epoch", True) else "step"
    total = plan.epochs if unit == "epoch" else plan.iterations
    does = "rises again" if "T_max" in one and one.get("end", end) > end else "stays as it is"
    then = f"after that the rate {does}" if part < 1 else "it is cut off before"
    what = f"the learning rate's {_name(one)} ends with {unit} {end:g}, the training with {total}: {then}"
    yield Finding("schedule-end", Severity.WARNING, what, examples=(_at(key),))


def _iterations(one: Mapping, time: float, plan: Plan) -> float:
    """Return a time of a scheduler in iterations."""
    return time * plan.steps if one.get("by_epoch", True) else time


def _is_warmup(one: Mapping) -> bool:
    if _name(one) not in _WARMUPS or one.get("begin", 0) > 0:
        return False
    start = one.get("start_factor", one.get("factor", 1 / 3))
    return start < one.get("end_factor", 1.0)


def _name(cfg: Mapping) -> str:
    kind: Any = cfg.get("type", "")
    return kind.rpartition(".")[2] if isinstance(kind, str) else kind.__name__


def _batch(plan: Plan) -> str:
    told = f"{plan.gpus} GPU{'s' if plan.gpus > 1 else ''} x {plan.batch_size} images"
    return told + (f" x {plan.accumulated} steps added up" if plan.accumulated > 1 else "")


def _at(key: str, detail: str = "") -> Example:
    return Example(key, "", detail)
