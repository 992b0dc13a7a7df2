"""Detectors whose maps lie in memory with their channels last, against the others."""

from __future__ import annotations

import copy

import pytest
import torch

from densehead.registry import MODELS
from tests.models.detectors.test_single_stage import build, config, data


def is_channels_last(tensor: torch.Tensor) -> bool:
    """Whether a tensor lies so; with one channel or one place there is no difference."""
    return tensor.is_contiguous(memory_format=torch.channels_last)


def losses_of(model: torch.nn.Module, dtype: torch.dtype) -> tuple[dict, dict]:
    """The losses of a batch, and the gradients."""
    batch = model.to(dtype).data_preprocessor(data(), True)
    losses = model(batch["inputs"].to(dtype), batch["data_samples"], mode="loss")
    sum(value for name, value in losses.items() if "loss" in name).backward()
    return losses, {name: value.grad for name, value in model.named_parameters() if value.grad is not None}


@pytest.mark.parametrize("kind", ["FCOS", "ATSS"])
def test_losses_and_gradients_are_the_same(kind):
    (losses, gradients), (other_losses, other_gradients) = (
        losses_of(build(kind, channels_last=last), torch.float64) for last in (False, True)
    )
    torch.testing.assert_close(other_losses, losses, rtol=1e-9, atol=1e-9)
    assert other_gradients.keys() == gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(other_gradients[name], gradient, rtol=1e-6, atol=1e-9)


def test_detections_are_the_same():
    one, other = (build(channels_last=last).eval().test_step(data()) for last in (False, True))
    for sample, expected in zip(other, one, strict=True):
        found, expected = sample.pred_instances, expected.pred_instances
        torch.testing.assert_close(found.scores, expected.scores, rtol=1e-3, atol=1e-5)
        torch.testing.assert_close(found.bboxes, expected.bboxes, rtol=1e-3, atol=1e-2)


def test_all_maps_lie_so_on_a_device_and_after_loading_too():
    model = build(channels_last=True)
    model.load_state_dict(build().state_dict())
    model = copy.deepcopy(model.to("cpu"))
    batch = model.data_preprocessor(data(), True)["inputs"]
    assert batch.is_contiguous()
    maps = model.extract_feat(batch)
    assert all(is_channels_last(level) for level in maps)
    assert all(is_channels_last(level) for one in model.bbox_head(maps) for level in one)
    assert not any(is_channels_last(level) for level in build().extract_feat(batch))


def test_checkpoints_do_not_show_it():
    plain, last = build().state_dict(), build(channels_last=True).state_dict()
    assert list(plain) == list(last)
    assert all(torch.equal(plain[name], last[name]) for name in plain)


def test_the_auxiliary_parts_too():
    head = dict(type="NanoDetPlusHead", num_classes=3, in_channels=16, feat_channels=16, strides=[8, 16, 32, 64])
    aux_head = dict(type="SimpleConvHead", feat_channels=16, stacked_convs=1, norm_cfg=dict(type="GN", num_groups=4))
    parts = dict(bbox_head=head, aux_head=aux_head, channels_last=True)
    model = MODELS.build(config("NanoDetPlus", **parts))
    assert all(is_channels_last(value) for value in model.parameters() if value.ndim == 4)


@pytest.mark.parametrize("given", ["yes", None, 1])
def test_other_values(given):
    with pytest.raises(ValueError, match=r"model\.channels_last must be True or False, but got"):
        build(channels_last=given)
