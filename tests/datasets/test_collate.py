"""Batches that processes send in one piece, against those collated in this one."""

from __future__ import annotations

import pickle

import pytest
import torch
from mmengine.dataset import pseudo_collate
from mmengine.registry import FUNCTIONS
from mmengine.structures import InstanceData
from torch.utils.data import DataLoader

from densehead.datasets import collate
from densehead.datasets.collate import packed_collate
from densehead.structures import DetDataSample

SIZES = [(40, 50), (33, 47), (3, 5), (64, 64)]


class Images(torch.utils.data.Dataset):
    def __init__(self, sizes=SIZES, dtype=torch.uint8):
        self.sizes, self.dtype = sizes, dtype

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(0, 256, (3, *self.sizes[index]), generator=generator).to(self.dtype)
        sample = DetDataSample(metainfo=dict(img_id=index, img_path=f"{index}.jpg", img_shape=self.sizes[index]))
        boxes = torch.rand(index, 4, generator=generator)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.arange(index))
        # strides that are not those of new tensors
        other = dict(turned=image.permute(1, 2, 0), spread=torch.tensor(1).expand(1), one=torch.tensor(1.5))
        other["large"] = torch.rand(1500, generator=generator)  # after images of an odd number of bytes
        return dict(inputs=image, data_samples=sample, other=other, name=f"{index}")


def load(function, workers, images=None, **keys):
    loader = DataLoader(images or Images(), batch_size=3, num_workers=workers, collate_fn=function, **keys)
    return list(loader)


def assert_same(one, other):
    assert type(one) is type(other)
    if isinstance(one, dict):
        assert list(one) == list(other)
        for key, value in one.items():
            assert_same(value, other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for pair in zip(one, other, strict=True):
            assert_same(*pair)
    elif isinstance(one, DetDataSample):
        assert one.metainfo == other.metainfo
        # their keys are a set, whose order may differ from one to the other
        assert_same(*(dict(sorted(sample.gt_instances.items())) for sample in (one, other)))
    elif isinstance(one, torch.Tensor):
        assert one.dtype == other.dtype
        assert torch.equal(one, other)
    else:
        assert one == other


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.float64, torch.bfloat16, torch.bool])
def test_a_batch_arrives_as_it_was(dtype):
    images = Images(dtype=dtype)
    for one, other in zip(load(packed_collate, 1, images), load(pseudo_collate, 0, images), strict=True):
        assert_same(one, other)


def test_without_processes_it_is_the_usual_batch():
    for one, other in zip(load(packed_collate, 0), load(pseudo_collate, 0), strict=True):
        assert type(one) is dict
        assert_same(one, other)


def test_small_images_need_no_buffer():
    images = Images([(3, 4)] * 3)
    assert_same(load(packed_collate, 1, images), load(pseudo_collate, 0, images))


def test_one_piece_is_sent(monkeypatch):
    """All images in one storage; what is small in its own, so that kept boxes do not keep the images."""
    monkeypatch.setattr(collate, "get_worker_info", lambda: object())
    parcel = packed_collate([Images()[index] for index in (0, 1, 3)])
    _, (_, buffer) = parcel.__reduce__()
    assert buffer.dtype == torch.uint8
    sizes = [3 * height * width for height, width in (SIZES[0], SIZES[1], SIZES[3])]
    expected = 2 * sum(sizes) + 3 * 1500 * 4
    assert expected <= len(buffer) < expected + 9 * 64
    batch = pickle.loads(pickle.dumps(parcel))
    assert len({image.untyped_storage().data_ptr() for image in batch["inputs"]}) == 1
    boxes = batch["data_samples"][2].gt_instances.bboxes
    assert boxes.untyped_storage().nbytes() == boxes.numel() * 4
    batch["inputs"][0].zero_()
    assert_same(batch["inputs"][1], Images()[1]["inputs"])


def test_tensors_that_have_no_bytes_of_their_own_go_as_usual(monkeypatch):
    monkeypatch.setattr(collate, "get_worker_info", lambda: object())
    sparse, learned = torch.eye(3).to_sparse(), torch.ones(2, requires_grad=True)
    batch = pickle.loads(pickle.dumps(packed_collate([dict(sparse=sparse, learned=learned)])))
    assert torch.equal(batch["sparse"][0].to_dense(), torch.eye(3))
    assert batch["learned"][0].requires_grad


@pytest.mark.parametrize("name", ["packed_collate", "densehead.packed_collate"])
def test_configs_know_it(name):
    registry = FUNCTIONS if "." in name else collate.FUNCTIONS
    assert registry.get(name) is packed_collate
