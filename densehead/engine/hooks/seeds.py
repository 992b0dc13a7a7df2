"""Random numbers that depend on the seed and the place in the training, and on nothing else."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.runner import EpochBasedTrainLoop

from densehead.registry import HOOKS


@HOOKS.register_module()
class SeedHook(Hook):
    """Makes a resumed training the continuation of the one that stopped.

    A sample's augmentation is seeded by (seed, epoch, index in the data set), what the model draws by (seed, iteration,
    rank). So neither how many processes load data, nor whether they persist, nor validation, nor a stop in between
    changes a batch or a loss. The seed is ``randomness.seed`` of the config; without one mmengine draws it and writes
    it to the checkpoints, and a resumed training shuffles by the seed of its checkpoint, not by the new one.

    Samples are seeded in loops by epochs, whose samplers know the epoch, unless the data set fetches whole batches
    itself (``__getitems__``).
    """

    priority = "VERY_HIGH"

    def before_train(self, runner) -> None:
        """Seed the sampler and, through it, every sample."""
        loader = runner.train_dataloader
        offset = runner.rank if runner._randomness_cfg.get("diff_rank_seed", False) else 0
        self.seed = int(runner.seed) - offset
        batches = getattr(loader, "batch_sampler", None)
        sampler = getattr(batches, "sampler", None)
        if not hasattr(sampler, "epoch") or not isinstance(runner.train_loop, EpochBasedTrainLoop):
            return
        sampler.seed = self.seed
        if not hasattr(loader.dataset, "__getitems__"):
            loader.dataset.__getitems__ = SeededFetch(loader.dataset)
            batches.sampler = SeededSampler(sampler)

    def before_train_iter(self, runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed what the model draws."""
        seed = mix(self.seed, runner.iter, runner.rank)
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)


def mix(*numbers: int) -> int:
    """Return 32 well mixed bits of non-negative numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])


class SeededIndex(int):
    """An index of a data set that carries the seed of its sample."""

    def __new__(cls, index: int, seed: int) -> SeededIndex:
        made = super().__new__(cls, index)
        made.seed = seed
        return made

    def __reduce__(self) -> tuple:
        return SeededIndex, (int(self), self.seed)


class SeededSampler:
    """A sampler whose indices carry seeds, and that is the given one in everything else."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def __iter__(self) -> Iterator[SeededIndex]:
        seed, epoch = self.sampler.seed, self.sampler.epoch
        for index in self.sampler:
            yield SeededIndex(index, mix(seed, epoch, index))

    def __len__(self) -> int:
        return len(self.sampler)

    def __getattr__(self, name: str) -> Any:
        if name == "sampler":  # not there yet while it is being copied
            raise AttributeError(name)
        return getattr(self.sampler, name)


class SeededFetch:
    """Fetches a batch for PyTorch's loader (``__getitems__``), each sample after its seed is set."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __call__(self, indices: Sequence[int]) -> list:
        samples = []
        for index in indices:
            if isinstance(index, SeededIndex):
                random.seed(index.seed)
                np.random.seed(index.seed)
                torch.default_generator.manual_seed(index.seed)
            samples.append(self.dataset[int(index)])
        return samples
