"""What a network sees of an image, and by which transforms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from mmcv.transforms import Normalize
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from densehead.registry import MODELS, SCOPE
from densehead.structures import DetDataSample


def build_preprocessor(cfg: Config) -> nn.Module:
    """Build the data preprocessor of the model of a config; one that normalises nothing where it names none."""
    init_default_scope(cfg.get("default_scope") or SCOPE)
    model = cfg.get("model") or {}
    return MODELS.build(
        model.get("data_preprocessor") or cfg.get("data_preprocessor") or {"type": "densehead.DetDataPreprocessor"}
    )


def normalisation_of(transforms: Iterable[Any]) -> Normalize | None:
    """Return the last ``Normalize`` of a pipeline, where the pipeline normalises and not the data preprocessor."""
    return next((one for one in reversed(list(transforms)) if isinstance(one, Normalize)), None)


def preprocess(sample: dict, preprocessor: nn.Module, *, training: bool) -> tuple[Tensor, DetDataSample]:
    """Return the input (C, H, W) that a network gets of a packed image alone, padding and all, and its sample."""
    one = {"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}
    batch = preprocessor(one, training)
    return batch["inputs"][0], batch["data_samples"][0]


def transforms_of(dataset: Any) -> Iterator[Any]:
    """Yield the transforms of a data set and of those that it is made of, in the order in which they are run."""
    inner = getattr(dataset, "dataset", None)
    for one in [inner] if inner is not None else getattr(dataset, "datasets", ())[:1]:
        yield from transforms_of(one)
    pipeline = getattr(dataset, "pipeline", ())
    yield from getattr(pipeline, "transforms", pipeline)
