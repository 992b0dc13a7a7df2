"""The heads that mmdetection has hold to its outputs, losses, gradients and detections."""

import pytest
import torch
from mmengine.structures import InstanceData

from densehead.registry import MODELS
from tests import golden

CASES = golden.cases("head_fcos") + golden.cases("head_atss") + golden.cases("head_gfl")
CASES += golden.cases("head_paa") + golden.cases("head_vfnet") + golden.cases("head_autoassign")


def build(meta, arrays):
    head = MODELS.build(dict(meta["head"], train_cfg=meta["train_cfg"], test_cfg=meta["test_cfg"]))
    state = {name.removeprefix("param/"): value for name, value in arrays.items() if name.startswith("param/")}
    head.load_state_dict(state, strict=True)
    return head


def level_maps(arrays, prefix):
    count = sum(name.startswith(f"{prefix}/") for name in arrays)
    return [arrays[f"{prefix}/{level}"] for level in range(count)]


def truth(meta, arrays):
    images = range(meta["images"])
    instances = [InstanceData(bboxes=arrays[f"gt/{i}/bboxes"], labels=arrays[f"gt/{i}/labels"]) for i in images]
    ignored = [InstanceData(bboxes=arrays[f"ignore/{i}/bboxes"]) for i in images]
    shape = tuple(meta["image_size"])
    metas = [dict(img_shape=shape, pad_shape=shape, batch_input_shape=shape, scale_factor=(1.0, 1.0)) for _ in images]
    return instances, metas, ignored


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_losses_and_gradients(name, memory_format):
    meta, arrays = golden.load(name)
    head = build(meta, arrays).train()
    feats = [feat.to(memory_format=memory_format).requires_grad_() for feat in level_maps(arrays, "feat")]

    maps = head(feats)
    for number, levels in enumerate(maps):
        for level, value in enumerate(levels):
            golden.assert_close(value, arrays[f"out/{number}/{level}"], relative=2e-4, name=f"out/{number}/{level}")

    losses = head.loss_by_feat(*maps, *truth(meta, arrays))
    assert {f"loss/{key}" for key in losses} == {key for key in arrays if key.startswith("loss/")}
    for key, value in losses.items():
        golden.assert_close(value, arrays[f"loss/{key}"], relative=2e-4, name=key)

    sum(losses.values()).backward()
    for level, feat in enumerate(feats):
        golden.assert_close(feat.grad, arrays[f"grad/feat/{level}"], relative=1e-3, name=f"grad/feat/{level}")
    for key, parameter in head.named_parameters():
        golden.assert_close(parameter.grad, arrays[f"grad/param/{key}"], relative=1e-3, name=f"grad/param/{key}")


@pytest.mark.parametrize("name", CASES)
def test_detections(name):
    meta, arrays = golden.load(name)
    head = build(meta, arrays).eval()
    _, metas, _ = truth(meta, arrays)

    with torch.no_grad():
        results = head.predict_by_feat(*head(level_maps(arrays, "feat")), batch_img_metas=metas, rescale=False)

    for image, result in enumerate(results):
        golden.assert_close(result.scores, arrays[f"pred/{image}/scores"], relative=1e-4, name="scores")
        golden.assert_close(result.bboxes, arrays[f"pred/{image}/bboxes"], relative=1e-4, name="bboxes")
        assert torch.equal(result.labels, arrays[f"pred/{image}/labels"])
