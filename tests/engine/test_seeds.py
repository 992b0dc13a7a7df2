import pickle
import random
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import DataLoader, Dataset

from densehead.engine.hooks.seeds import SeededIndex, SeededSampler, SeedHook, mix


class Draws(Dataset):
    """Samples that are what each generator draws."""

    def __len__(self):
        return 6

    def __getitem__(self, index):
        return index, random.random(), float(np.random.rand()), float(torch.rand(()))


def collate(samples):
    return samples


def make_loader(num_workers=0, batch_size=2, persistent_workers=False):
    dataset = Draws()
    sampler = DefaultSampler(dataset, shuffle=True, seed=123)
    return DataLoader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=num_workers,
        persistent_workers=persistent_workers,
        collate_fn=collate,
    )


def make_runner(loader, seed=5, rank=0, epoch_based=True, **randomness):
    loop = EpochBasedTrainLoop.__new__(EpochBasedTrainLoop) if epoch_based else None
    return SimpleNamespace(
        train_dataloader=loader, train_loop=loop, seed=seed, rank=rank, iter=0, _randomness_cfg=randomness
    )


def epochs(loader, *numbers, seed=5):
    SeedHook().before_train(make_runner(loader, seed))
    seen = []
    for epoch in numbers:
        loader.sampler.set_epoch(epoch)
        seen.append([sample for batch in loader for sample in batch])
    return seen


def test_samples_depend_on_seed_epoch_and_index_only():
    first, second = epochs(make_loader(), 0, 1)
    assert sorted(sample[0] for sample in first) == list(range(6))
    assert len({value for sample in first + second for value in sample[1:]}) == 36
    # the second epoch on its own, by two processes that live on, in other batches
    torch.manual_seed(99)
    assert epochs(make_loader(2, 3, True), 1) == [second]
    assert epochs(make_loader(), 1, seed=6) != [second]


def test_sampler_shuffles_by_the_seed_of_the_run():
    (order,) = epochs(make_loader(), 0)
    expected = list(DefaultSampler(Draws(), shuffle=True, seed=5))
    assert [sample[0] for sample in order] == expected


def test_ranks_shuffle_alike_and_draw_apart():
    hook = SeedHook()
    draws = []
    for rank in (0, 1):
        loader = make_loader()
        runner = make_runner(loader, seed=5 + rank, rank=rank, diff_rank_seed=True)
        hook.before_train(runner)
        hook.before_train_iter(runner, 0)
        assert loader.sampler.seed == 5
        draws.append((random.random(), np.random.rand(), float(torch.rand(()))))
    assert not set(draws[0]) & set(draws[1])


def test_model_draws_by_iteration():
    hook = SeedHook()
    runner = make_runner(make_loader())
    hook.before_train(runner)

    def draw(iteration):
        runner.iter = iteration
        hook.before_train_iter(runner, 0)
        return torch.rand(3).tolist()

    assert draw(4) == draw(4)
    assert draw(4) != draw(5)


def test_data_sets_that_fetch_batches_are_left_alone():
    loader = make_loader()
    Fetching = type("Fetching", (Draws,), {"__getitems__": lambda self, indices: list(indices)})
    loader.dataset.__class__ = Fetching
    SeedHook().before_train(make_runner(loader))
    assert not isinstance(loader.batch_sampler.sampler, SeededSampler)
    assert "__getitems__" not in vars(loader.dataset)


def test_loops_by_iterations_are_left_alone():
    loader = make_loader()
    SeedHook().before_train(make_runner(loader, epoch_based=False))
    assert loader.sampler.seed == 123


def test_seeded_index_is_an_index():
    index = pickle.loads(pickle.dumps(SeededIndex(3, 77)))
    assert (index, index.seed) == (3, 77)
    assert list(range(5))[index] == 3


def test_seeded_sampler_is_the_sampler():
    sampler = SeededSampler(DefaultSampler(Draws(), seed=1))
    assert (len(sampler), sampler.shuffle) == (6, True)
    with pytest.raises(AttributeError):
        _ = SeededSampler.__new__(SeededSampler).anything


def test_mix_tells_places_apart():
    assert len({mix(0, a, b) for a in range(10) for b in range(10)}) == 100
