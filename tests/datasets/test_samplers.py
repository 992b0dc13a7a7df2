from __future__ import annotations

import pytest
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.runner import Runner
from torch.utils.data import SequentialSampler

from densehead.datasets import AspectRatioBatchSampler


class Sizes:
    """A data set of nothing but sizes."""

    metainfo = {}

    def __init__(self, sizes):
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        return index

    def get_data_info(self, index):
        width, height = self.sizes[index]
        return {"width": width, "height": height}


@pytest.fixture
def dataset():
    """U: upright, L: not; L U L L U U U L L U L."""
    return Sizes([(8, 6) if letter == "L" else (6, 8) for letter in "LULLUUULLUL"])


def sampler(dataset, **keys):
    return AspectRatioBatchSampler(DefaultSampler(dataset, shuffle=False), **keys)


def test_batches_are_of_one_form_until_the_rest(dataset):
    batches = list(sampler(dataset, batch_size=3))
    assert batches == [[0, 2, 3], [1, 4, 5], [7, 8, 10], [6, 9]]
    dropped = list(sampler(dataset, batch_size=3, drop_last=True))
    assert dropped == batches[:3]


def test_what_is_left_of_both_forms_is_batched(dataset):
    assert list(sampler(dataset, batch_size=4)) == [[1, 4, 5, 6], [0, 2, 3, 7], [9, 8, 10]]


@pytest.mark.parametrize("drop_last", [True, False])
@pytest.mark.parametrize("batch_size", [1, 2, 3, 5, 11, 20])
def test_length_is_the_number_of_batches_and_each_image_comes_once(dataset, batch_size, drop_last):
    batches = sampler(dataset, batch_size=batch_size, drop_last=drop_last)
    for _ in range(2):  # an epoch leaves nothing for the next
        drawn = list(batches)
        assert len(drawn) == len(batches)
        indices = [index for batch in drawn for index in batch]
        assert len(set(indices)) == len(indices)
        assert len(indices) == (len(dataset) // batch_size * batch_size if drop_last else len(dataset))


def test_a_stopped_epoch_leaves_nothing_for_the_next(dataset):
    batches = sampler(dataset, batch_size=3)
    next(iter(batches))
    assert sorted(index for batch in batches for index in batch) == list(range(11))


def test_goes_with_an_infinite_sampler(dataset):
    batches = iter(AspectRatioBatchSampler(InfiniteSampler(dataset, shuffle=True, seed=0), 3))
    for _ in range(20):
        forms = {dataset.sizes[index] for index in next(batches)}
        assert len(forms) == 1


@pytest.mark.parametrize("kind", ["AspectRatioBatchSampler", "densehead.AspectRatioBatchSampler"])
def test_a_config_builds_it(dataset, kind):
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope("densehead"):
        loader = Runner.build_dataloader(
            {
                "batch_size": 3,
                "num_workers": 0,
                "sampler": {"type": "DefaultSampler", "shuffle": False},
                "batch_sampler": {"type": kind},
                "dataset": dataset,
                "collate_fn": {"type": "default_collate"},
            }
        )
    assert next(iter(loader)).tolist() == [0, 2, 3]


@pytest.mark.parametrize("batch_size", [0, -1, 2.0, True])
def test_the_batch_size_must_be_a_number(dataset, batch_size):
    with pytest.raises(ValueError, match="batch_size must be a positive integer"):
        sampler(dataset, batch_size=batch_size)


def test_the_sampler_must_know_its_data_set(dataset):
    with pytest.raises(TypeError, match="sampler must be a torch Sampler, but got list"):
        AspectRatioBatchSampler([1, 2], 2)
    with pytest.raises(TypeError, match="get_data_info"):
        AspectRatioBatchSampler(SequentialSampler(range(3)), 2)
