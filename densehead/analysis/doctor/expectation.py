"""What to expect of a training: steps, memory and time, and how each was estimated."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn

from densehead.analysis.doctor.cost import SMALL_IMAGES, StepCost, measure_step, small_size
from densehead.analysis.doctor.findings import Example, Finding, Severity
from densehead.analysis.doctor.page import Section
from densehead.analysis.doctor.parts import Part
from densehead.analysis.doctor.scaling import scale
from densehead.analysis.doctor.schedule import Plan

#: Copies of the trained weights that optimizers keep; of others one is assumed.
_STATES = {"SGD": 1, "Adam": 2, "AdamW": 2, "NAdam": 2, "RAdam": 2, "Adamax": 2, "RMSprop": 1, "Adagrad": 1}
#: A step that takes longer than so many seconds is not taken to be measured.
LONG = 4.0
#: Used where mixed precision was not measured: maps then take half.
_HALF = 0.5


@dataclass(frozen=True)
class BatchSizes:
    """Sizes of the images that the training pipeline puts out, padded as in a batch of their own.

    Attributes:
        largest: height and width of the largest, pixels.
        mean_pixels: of an image.
        objects: of an image, on average.
    """

    largest: tuple[int, int]
    mean_pixels: float
    objects: int

    @classmethod
    def of(cls, parts: Sequence[Part], divisor: int) -> BatchSizes | None:
        """Return the sizes of the images of parts; None where none is known."""
        largest, pixels, weights, objects = (0, 0), [], [], []
        for part in parts:
            sizes = part.annotations.sizes
            sizes = sizes[~np.isnan(sizes).any(1)]
            if not len(sizes):
                continue
            for way in scale(part.pipeline, sizes)[0]:
                padded = np.ceil(way.size / divisor) * divisor
                area = padded.prod(1)
                width, height = (int(side) for side in padded[area.argmax()])
                largest = max(largest, (height, width), key=np.prod)
                pixels.append(area.mean())
                weights.append(way.weight * len(sizes))
            objects.append(part.is_object.sum() / len(sizes))
        if not pixels:
            return None
        count = int(np.clip(round(float(np.mean(objects))), 1, 200))
        return cls(largest, float(np.average(pixels, weights=weights)), count)


def measure(model: nn.Module, plan: Plan, sizes: BatchSizes, device: str, amp: torch.dtype | None) -> StepCost:
    """Take a step of the training; on a CPU a small one, if one of its size would take long."""
    height, width = sizes.largest
    if device == "cpu":
        small = measure_step(model, SMALL_IMAGES, *small_size(height, width), sizes.objects, device, None)
        if small.of_pixels(plan.batch_size * height * width)[1] > LONG:
            return small
    return measure_step(model, plan.batch_size, height, width, sizes.objects, device, amp if device != "cpu" else None)


@dataclass(frozen=True)
class Expectation:
    """What a training will take.

    Attributes:
        plan: its steps.
        sizes: of its images.
        cost: of a measured step.
        weights, trained: bytes of all parameters, and of those that learn.
        copies: of the trained weights that the optimizer keeps, and hooks that average.
        device: where it was measured.
        amp: mixed precision.
        loading: seconds to load an image; None where that was not measured.
        workers: loading processes.
    """

    plan: Plan
    sizes: BatchSizes
    cost: StepCost
    weights: int
    trained: int
    copies: int
    device: str
    amp: bool
    loading: float | None
    workers: int

    @classmethod
    def of(
        cls, cfg: Mapping, model: nn.Module, plan: Plan, sizes: BatchSizes, device: str, loading: float | None
    ) -> Expectation:
        """Measure a step of the model of a config."""
        wrapper = cfg.get("optim_wrapper") or {}
        amp = str(wrapper.get("type", "")).endswith("AmpOptimWrapper")
        dtype = {"bfloat16": torch.bfloat16}.get(str(wrapper.get("dtype")), torch.float16) if amp else None
        cost = measure(model, plan, sizes, device, dtype)
        parameters = list(model.parameters())
        return cls(
            plan,
            sizes,
            cost,
            weights=sum(one.nbytes for one in parameters),
            trained=sum(one.nbytes for one in parameters if one.requires_grad),
            copies=_copies(cfg),
            device=device,
            amp=amp,
            loading=loading,
            workers=int((cfg.get("train_dataloader") or {}).get("num_workers", 0)),
        )

    @property
    def activations(self) -> float:
        """Bytes that a step of the largest images keeps for its backward pass."""
        height, width = self.sizes.largest
        kept = self.cost.of_pixels(self.plan.batch_size * height * width)[0]
        return kept * (_HALF if self.amp and self.device == "cpu" else 1.0)

    @property
    def memory(self) -> float:
        """Bytes on each device at most."""
        kept = self.trained * self.copies
        if self.cost.peak is not None:
            return self.cost.peak + kept
        step = peak_of_step(self.activations, self.trained, accumulates=self.plan.accumulated > 1)
        return self.weights + kept + step

    @property
    def step(self) -> float:
        """Seconds of a step, or of the loading of its images, whichever is longer."""
        computing = self.cost.of_pixels(self.plan.batch_size * self.sizes.mean_pixels)[1]
        loading = (self.loading or 0.0) * self.plan.batch_size
        return max(computing, loading / self.workers) if self.workers else computing + loading

    def findings(self) -> list[Finding]:
        """Return a warning where the memory will not do."""
        available = device_memory(self.device)
        if available is None or self.memory < available:
            return []
        what = f"the training takes about {_giga(self.memory)}, but there are {_giga(available)} ({self.device})"
        return [Finding("memory", Severity.WARNING, what, examples=(Example("train_dataloader.batch_size"),))]

    def rows(self) -> list[tuple[str, str]]:
        """Return lines for the page."""
        plan, cost = self.plan, self.cost
        height, width = self.sizes.largest
        parts = f"{_giga(self.weights)} weights, {_giga(self.trained)} gradients, {_giga(self.trained * self.copies)} "
        parts += f"copies of them for the optimizer, {_giga(self.activations)} maps of {plan.batch_size} images of "
        parts += f"{height} x {width}"
        step = f"a step on {cost.images} images of {cost.height} x {cost.width} on this {self.device.upper()}"
        how = f"{step} kept {cost.activations / cost.pixels:,.0f} bytes a pixel for its backward pass"
        how += ", of which mixed precision needs half" if self.amp and self.device == "cpu" else ""
        how += "; the program and a GPU's libraries take 0.5 to 1 GB more"
        loading = ""
        if self.loading is not None:
            processes = f"{self.workers} process{'es' if self.workers != 1 else ''}" if self.workers else "no process"
            loading = f", loading an image {self.loading * 1e3:.2g} ms ({processes} for it)"
        return [
            ("memory", f"about {_giga(self.memory)} each GPU or process: {parts}. Estimated: {how}."),
            (
                "time",
                f"about {_duration(self.step * plan.iterations)} without validation, {_seconds(self.step)} a step. "
                f"Estimated: {step} took {_seconds(cost.seconds)}{loading}; another machine takes another time.",
            ),
        ]

    def to_dict(self) -> dict:
        """Return it as plain values; bytes and seconds."""
        return {
            "memory": self.memory,
            "activations": self.activations,
            "weights": self.weights,
            "optimizer": self.trained * self.copies,
            "seconds_a_step": self.step,
            "seconds": self.step * self.plan.iterations,
            "seconds_to_load_an_image": self.loading,
            "device": self.device,
            "measured_images": [self.cost.images, self.cost.height, self.cost.width],
            "largest_image": list(self.sizes.largest),
        }


def expectation_section(plan: Plan | None, expected: Expectation | None, remark: str = "") -> Section | None:
    """Return the part of the page on what to expect."""
    if plan is None:
        return None
    rows = [("steps", plan.told())]
    rows += expected.rows() if expected else []
    data = {"images_an_epoch": plan.images, "steps_an_epoch": plan.steps, "steps": plan.iterations}
    data |= expected.to_dict() if expected else {}
    return Section("expect", "What to expect", (), rows, [remark] if remark else [], data)


def peak_of_step(activations: float, gradients: float, *, accumulates: bool = False) -> float:
    """Return the most bytes that a step takes besides the weights.

    Maps are released while gradients of the weights come into being: about half of them are left when all are there.

    Args:
        activations: bytes that are kept for the backward pass.
        gradients: bytes of the gradients of the weights.
        accumulates: whether gradients of the step before are still there.
    """
    if accumulates:
        return 1.05 * activations + gradients
    return max(1.05 * activations, 0.5 * activations + gradients)


def device_memory(device: str) -> int | None:
    """Return the bytes of memory of a device; None where the system does not tell."""
    if device == "cuda":
        return torch.cuda.get_device_properties(0).total_memory
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def _copies(cfg: Mapping) -> int:
    """How many copies of the trained weights are kept besides."""
    optimizer = (cfg.get("optim_wrapper") or {}).get("optimizer") or {}
    kind = str(optimizer.get("type", "")).rpartition(".")[2]
    states = 0 if kind == "SGD" and not optimizer.get("momentum") else _STATES.get(kind, 1)
    hooks = cfg.get("custom_hooks") or ()
    return states + sum(str(hook.get("type", "")).endswith("EMAHook") for hook in hooks if isinstance(hook, Mapping))


def _giga(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count < 9.95e9 else f"{count / 1e9:,.0f} GB"


def _seconds(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.2g} s"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    if minutes < 90:
        return f"{minutes:.0f} min"
    hours = minutes / 60
    return f"{hours:.1f} h" if hours < 48 else f"{hours / 24:.1f} days"
