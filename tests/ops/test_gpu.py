"""A GPU gives what the CPU gives."""

from __future__ import annotations

import pytest
import torch

from densehead.models.losses import FocalLoss
from densehead.ops import batched_nms, deform_conv2d, pairwise_iou, sigmoid_focal_loss

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here"),
]


def on_both(function, *tensors):
    """Return the results of the CPU and of the GPU, the latter copied back."""
    found = []
    for device in ("cpu", "cuda"):
        result = function(*(one.to(device) for one in tensors))
        found.append([one.cpu() for one in (result if isinstance(result, tuple) else (result,))])
    return found


def test_overlaps(any_backend, random_boxes):
    torch.testing.assert_close(*on_both(pairwise_iou, random_boxes(20, 0), random_boxes(30, 1)))


@pytest.mark.parametrize("kind", ["nms", "soft_nms"])
def test_nms(any_backend, random_boxes, kind):
    boxes, labels = random_boxes(200), torch.arange(200) % 7
    scores = torch.randperm(200, generator=torch.Generator().manual_seed(0)) / 200
    cfg = {"type": kind, "iou_threshold": 0.5}
    torch.testing.assert_close(*on_both(lambda *some: batched_nms(*some, cfg), boxes, scores, labels))


def test_deformable_convolution(any_backend):
    x, offset = torch.randn(2, 4, 9, 9), torch.randn(2, 18, 7, 7)
    weight, mask = torch.randn(6, 4, 3, 3), torch.rand(2, 9, 7, 7)
    some = on_both(lambda *t: deform_conv2d(*t[:3], mask=t[3]), x, offset, weight, mask)
    torch.testing.assert_close(*some, rtol=1e-3, atol=1e-3)


def test_focal_loss(any_backend):
    torch.testing.assert_close(*on_both(sigmoid_focal_loss, torch.randn(40, 5), torch.arange(40) % 6))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("weighted", [False, True])
def test_focal_loss_of_maps(weighted, dtype):
    def loss_and_gradient(logits, image, prior, label, weight):
        logits.requires_grad_()
        options = {"weight": weight if weighted else None, "avg_factor": torch.tensor(3.0, device=logits.device)}
        value = FocalLoss().forward_maps(logits, image, prior, label, **options)
        return value, torch.autograd.grad(value, logits)[0]

    logits, weight = torch.randn(2, 3, 5, 40).to(dtype), torch.rand(2, 120)
    positives = torch.tensor([0, 1, 1]), torch.tensor([7, 0, 119]), torch.tensor([4, 0, 2])
    torch.testing.assert_close(*on_both(loss_and_gradient, logits, *positives, weight), rtol=1e-3, atol=1e-4)
