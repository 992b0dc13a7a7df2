"""What a training step costs: memory and time, of a step that is taken on made-up images."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from mmengine.structures import InstanceData
from torch import Tensor, nn

from densehead.structures import DetDataSample

#: On a CPU a step is taken on so many images of about so many pixels; what it costs grows with the pixels.
SMALL_IMAGES = 2
SMALL_PIXELS = 192 * 192
_MULTIPLE = 64
#: The first step takes longer than others, and other work on the machine may delay any.
MOST_STEPS = 6
ENOUGH = 1.0  # seconds


@dataclass(frozen=True)
class StepCost:
    """What a step cost.

    Attributes:
        images: of the step.
        height, width: of each, pixels.
        activations: bytes that were kept for the backward pass, without the weights.
        seconds: of forward pass, losses and backward pass.
        peak: most bytes that the device had allocated, everything included; None where that is not known.
    """

    images: int
    height: int
    width: int
    activations: int
    seconds: float
    peak: int | None = None

    @property
    def pixels(self) -> int:
        """Pixels of all its images."""
        return self.images * self.height * self.width

    def of_pixels(self, pixels: float) -> tuple[float, float]:
        """Return the bytes and the seconds of a step on so many pixels."""
        part = pixels / self.pixels
        return self.activations * part, self.seconds * part


def small_size(height: float, width: float) -> tuple[int, int]:
    """Return a size of about :data:`SMALL_PIXELS` and the form of ``height`` x ``width``; no larger than that."""
    factor = min((SMALL_PIXELS / (height * width)) ** 0.5, 1.0)
    return tuple(max(round(side * factor / _MULTIPLE), 1) * _MULTIPLE for side in (height, width))


def measure_step(
    model: nn.Module, images: int, height: int, width: int, objects: int, device: str, amp_dtype: torch.dtype | None
) -> StepCost:
    """Take some steps on noise and measure them, the time by the shortest; the weights stay as they are.

    Args:
        model: a detector; it is left on the device, in training mode.
        images: of a step.
        height: pixels.
        width: pixels.
        objects: in each image.
        device: ``'cpu'`` or ``'cuda'``.
        amp_dtype: of mixed precision; None for none.

    Raises:
        RuntimeError, ValueError: the model cannot be trained so.
    """
    model.to(device).train()
    inputs = torch.randn(images, 3, height, width, device=device)
    classes = getattr(model.bbox_head, "num_classes", 1)
    samples = [_sample(height, width, objects, classes, device) for _ in range(images)]
    amp = torch.autocast(device, dtype=amp_dtype, enabled=amp_dtype is not None)
    seconds, began = float("inf"), time.perf_counter()
    for index in range(MOST_STEPS):
        if index > 1 and time.perf_counter() - began > ENOUGH:
            break
        model.zero_grad(set_to_none=True)
        if device == "cuda":
            torch.cuda.reset_peak_memory_stats()
        begin, used = _now(device), time.process_time()
        with _kept(model) as kept, amp:
            loss = _total(model.loss(inputs, samples))
        activations = sum(kept.values())
        loss.backward()
        seconds = min(seconds, _now(device) - begin)
        if device == "cpu":  # less than what passed, where other work held it up
            seconds = min(seconds, time.process_time() - used)
    peak = torch.cuda.max_memory_allocated() if device == "cuda" else None
    model.zero_grad(set_to_none=True)
    return StepCost(images, height, width, activations, seconds, peak)


@contextlib.contextmanager
def _kept(model: nn.Module) -> Iterator[dict[int, int]]:
    """Note the bytes of what is kept for the backward pass, by where it lies; weights and buffers are there anyway."""
    own = {one.untyped_storage().data_ptr() for one in (*model.parameters(), *model.buffers())}
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        yield kept


def _total(losses: Mapping[str, Tensor | list[Tensor]]) -> Tensor:
    terms = [value for name, value in losses.items() if "loss" in name]
    return sum(sum(one) if isinstance(one, list | tuple) else one for one in terms)


def _now(device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def _sample(height: int, width: int, objects: int, classes: int, device: str) -> DetDataSample:
    """Boxes at random places of an image, of a tenth to a third of its sides."""
    generator = torch.Generator().manual_seed(0)
    sides = torch.tensor([width, height], dtype=torch.float32)
    size = sides * (0.1 + 0.23 * torch.rand(objects, 2, generator=generator))
    corner = (sides - size) * torch.rand(objects, 2, generator=generator)
    shape = (height, width)
    sample = DetDataSample(metainfo={"img_shape": shape, "pad_shape": shape, "batch_input_shape": shape})
    labels = torch.arange(objects) % classes
    sample.gt_instances = InstanceData(bboxes=torch.cat([corner, corner + size], 1), labels=labels).to(device)
    nothing = InstanceData(bboxes=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.long))
    sample.ignored_instances = nothing.to(device)
    return sample
