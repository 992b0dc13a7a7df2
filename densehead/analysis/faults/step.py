"""``TrainingStep``: the batch of a step and all else that its losses depend on, to compute them again."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from mmengine.logging import MessageHub
from mmengine.structures import InstanceData
from torch import Tensor, nn

from densehead.safe_load import read_checkpoint
from densehead.structures import DetDataSample, box_tensor

INSTANCES = ("gt_instances", "ignored_instances", "proposals")
Losses = dict[str, Tensor]


@dataclass(frozen=True)
class TrainingStep:
    """What goes into the forward pass of a training.

    Attributes:
        inputs: (B, C, H, W) images, as the data preprocessor has put them out.
        samples: their truth.
        random_state: of the generators, before the pass; see :func:`random_state`.
        autocast: the type that is computed in, in mixed precision; None otherwise.
    """

    inputs: Tensor
    samples: Sequence[DetDataSample]
    random_state: dict[str, Any]
    autocast: torch.dtype | None

    @classmethod
    def of(cls, batch: Mapping[str, Any]) -> TrainingStep:
        """Keep a batch of the data preprocessor by reference, with the state of the generators now."""
        device = batch["inputs"].device
        return cls(batch["inputs"], batch["data_samples"], random_state(device), _autocast_type(device.type))

    def run(self, detector: nn.Module) -> Losses:
        """Return the losses of the batch, in the mode that the detector is in."""
        set_random_state(self.random_state)
        kind = self.inputs.device.type
        with nullcontext() if self.autocast is None else torch.autocast(kind, self.autocast):
            return detector(self.inputs, [sample.clone() for sample in self.samples], mode="loss")

    def to(self, device: str | torch.device) -> TrainingStep:
        """Return the step with images and truth on a device."""
        samples = [sample.to(device) for sample in self.samples]
        return TrainingStep(self.inputs.to(device), samples, self.random_state, self.autocast)

    def content(self) -> dict[str, Any]:
        """Return tensors, numbers and text alone, which :func:`torch.load` reads without running anything."""
        return {
            "inputs": self.inputs.detach().cpu(),
            "samples": [_plain_sample(sample) for sample in self.samples],
            "random_state": self.random_state,
            "autocast": None if self.autocast is None else str(self.autocast).removeprefix("torch."),
        }

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> TrainingStep:
        """Return the step of a :meth:`content`."""
        autocast = content["autocast"]
        samples = [_sample(one) for one in content["samples"]]
        return cls(content["inputs"], samples, content["random_state"], autocast and getattr(torch, autocast))


def random_state(device: torch.device) -> dict[str, Any]:
    """Return the state of the generators of Python, NumPy, PyTorch and, for a GPU, its own."""
    name, keys, *rest = np.random.get_state()
    state = {"python": random.getstate(), "numpy": (name, torch.from_numpy(keys.astype(np.int64)), *rest)}
    state["torch"] = torch.get_rng_state()
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: Mapping[str, Any]) -> None:
    """Set what :func:`random_state` has returned; a GPU's where there is one."""
    name, keys, *rest = state["numpy"]
    random.setstate(state["python"])
    np.random.set_state((name, keys.numpy().astype(np.uint32), *rest))
    torch.set_rng_state(state["torch"])
    if "cuda" in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state["cuda"])


def set_progress(iteration: int, epoch: int) -> None:
    """Say how far a training is to what asks mmengine's message hub: counted from 0."""
    MessageHub.get_current_instance().update_info_dict({"iter": iteration, "epoch": epoch})


def read_step(file: str | os.PathLike) -> dict[str, Any]:
    """Read what was written of a step, without running code of the file.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it holds no step, or more than numbers and text.
    """
    if not os.path.isfile(file):
        raise FileNotFoundError(f"there is no file {file}: the report of a step that could be written has one")
    content = read_checkpoint(file, key="the batch to replay")
    if not isinstance(content, dict) or not {"step", "state_dict", "model"} <= set(content):
        raise ValueError(f"{file} must hold the step of a training (step, state_dict, model), but does not")
    return content


def plain(value: Any, unfit: Callable[[Any], Any] = lambda value: None) -> Any:
    """Return a copy of nested containers with plain dicts, lists, tuples, numbers, text and tensors alone.

    Args:
        value: what is copied.
        unfit: makes something else of any other object.
    """
    if isinstance(value, Mapping):
        return {key: plain(one, unfit) for key, one in value.items()}
    if isinstance(value, tuple):
        return tuple(plain(one, unfit) for one in value)
    if isinstance(value, list):
        return [plain(one, unfit) for one in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return value.tolist()
    if isinstance(value, Tensor):
        return value.detach().cpu()
    return value if value is None or isinstance(value, bool | int | float | str) else unfit(value)


def _autocast_type(kind: str) -> torch.dtype | None:
    """Return what mixed precision computes in on a kind of device here, or None where there is none."""
    if hasattr(torch, "get_autocast_dtype"):
        return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
    if kind == "cpu":  # PyTorch before 2.4
        return torch.get_autocast_cpu_dtype() if torch.is_autocast_cpu_enabled() else None
    return torch.get_autocast_gpu_dtype() if torch.is_autocast_enabled() else None


def _plain_sample(sample: DetDataSample) -> dict[str, Any]:
    instances = {}
    for name in INSTANCES:
        if name in sample:
            fields = dict(sample.get(name).items())
            fields["bboxes"] = box_tensor(fields["bboxes"])
            instances[name] = {key: value.detach().cpu() for key, value in fields.items() if isinstance(value, Tensor)}
    return {"meta": plain(sample.metainfo), "instances": instances}


def _sample(content: Mapping[str, Any]) -> DetDataSample:
    made = DetDataSample(metainfo=content["meta"])
    for name, fields in content["instances"].items():
        setattr(made, name, InstanceData(**fields))
    return made
