"""Short trainings of small detectors of all heads, on one process or on several that share the images."""

from __future__ import annotations

import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import Tensor, nn

from densehead.registry import MODELS
from tests.models.heads.heads import GN, SHAPE, config, samples

HEADS = ("FCOSHead", "ATSSHead", "GFLHead", "VFNetHead", "PAAHead", "AutoAssignHead", "NanoDetPlusHead")
# small for NanoDet-Plus: it matches by its predictions, and a match that a rounding error turns makes another run
LR = dict.fromkeys(HEADS, 1e-3) | {"NanoDetPlusHead": 1e-4}
IMAGES = 2  # of a rank
# of a step and a rank: the ground truths of its images
CASES = {
    "one rank empty": lambda step, rank: [8, 6] if rank == 0 else [0, 0],
    "both empty": lambda step, rank: [0, 0],
    "alternating": lambda step, rank: [7, 9] if (step + rank) % 2 else [0, 0],
}


def build_detector(head: str, **changes) -> nn.Module:
    """Return a detector with two frozen stages, whose scores begin at 0.5; no normalisation depends on the batch."""
    torch.manual_seed(0)
    cfg = dict(
        type="SingleStageDetector",
        data_preprocessor=dict(type="DetDataPreprocessor"),
        backbone=dict(type="ResNet", depth=18, base_channels=8, out_indices=(1, 2, 3), frozen_stages=1, norm_eval=True),
        neck=dict(type="FPN", in_channels=[16, 32, 64], out_channels=8, num_outs=3),
        bbox_head=config(head),
    )
    if head == "NanoDetPlusHead":
        aux_head = dict(type="SimpleConvHead", feat_channels=8, stacked_convs=1, norm_cfg=GN)
        cfg |= dict(type="NanoDetPlus", aux_head=aux_head, detach_epoch=1)
    model = MODELS.build(cfg | changes)
    model.init_weights()
    for name, parameter in model.named_parameters():
        if "_head." in name and "cls" in name and name.endswith("bias") and "convs" not in name:
            nn.init.zeros_(parameter)
    return model.train()


def batch(case: str, step: int, ranks: list[int]) -> dict:
    """Return the images of a step, of one rank or of several."""
    images, found = [], []
    for rank in ranks:
        seed = 100 * step + rank
        images.append(torch.randn(IMAGES, 3, *SHAPE, generator=torch.Generator().manual_seed(seed)))
        found += samples(CASES[case](step, rank), seed)
    return dict(inputs=torch.cat(images), data_samples=found)


def train(model: nn.Module, case: str, ranks: list[int], steps: int, lr: float) -> list[float]:
    """Train in place; return the total loss of each step. NanoDet-Plus detaches its auxiliary head half way."""
    optimizer = torch.optim.SGD((one for one in model.parameters() if one.requires_grad), lr=lr)
    optim_wrapper = OptimWrapper(optimizer, clip_grad=None)
    detector = getattr(model, "module", model)
    losses = []
    for step in range(steps):
        if hasattr(detector, "set_epoch"):
            detector.set_epoch(2 * step // steps)
        losses.append(model.train_step(batch(case, step, ranks), optim_wrapper)["loss"].item())
    return losses


def weights(model: nn.Module) -> Tensor:
    """All parameters and buffers, one after the other."""
    state = getattr(model, "module", model).state_dict().values()
    return torch.cat([value.detach().flatten().double() for value in state])


class CountedCollectives:
    """Names and sizes of the collective calls made from Python, in their order."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []

    def __enter__(self) -> CountedCollectives:
        self._all_reduce = dist.all_reduce
        dist.all_reduce = self._count
        return self

    def __exit__(self, *error) -> None:
        dist.all_reduce = self._all_reduce

    def _count(self, tensor: Tensor, *args, **kwargs):
        self.calls.append(("all_reduce", tensor.numel()))
        return self._all_reduce(tensor, *args, **kwargs)


def train_rank(rank: int, heads: list[str], cases: list[str], steps: int) -> dict:
    """Train every head in every case on this rank's images; return weights, losses and collective calls of each."""
    found = {}
    for head in heads:
        for case in cases:
            model = MMDistributedDataParallel(
                build_detector(head), broadcast_buffers=False, find_unused_parameters=False
            )
            with CountedCollectives() as collectives:
                losses = train(model, case, [rank], steps, LR[head])
            found[head, case] = dict(weights=weights(model), losses=losses, calls=collectives.calls)
    return found
