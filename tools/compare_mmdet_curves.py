#!/usr/bin/env python
"""Train mmdetection's GFL with its own head and with densehead's, from the same start on the same batches; draw both.

python tools/compare_mmdet_curves.py docs/images/plugin_gfl_curves.png

Detector, backbone, neck, data preprocessor, data samples and optimiser are mmdetection's and mmengine's; the head with
its losses, assigner, coder and prior generator is the one or the other. Rounding alone lets two trainings part; how
far, a third shows: mmdetection's head again, from weights that differ in the last digit. Needs what compare_mmdet.py
needs.
"""

from __future__ import annotations

import argparse
import copy
import logging
import sys
import warnings
from pathlib import Path

import matplotlib
from compare_mmdet import build, draw_batch, model_config

matplotlib.use("Agg")

import matplotlib.pyplot as plt
import torch
from mmengine.optim import build_optim_wrapper
from torch import Tensor

STEPS = 20
BATCHES = 5  # of four images; they come again
OPTIMIZER = dict(
    type="OptimWrapper",
    optimizer=dict(type="SGD", lr=0.005, momentum=0.9, weight_decay=0.0001),
    clip_grad=dict(max_norm=35, norm_type=2),  # there is no warm-up
)
PALE, DARK = "#e69f00", "#0072b2"
LEAST = 1e-8  # float32 has no smaller differences
JITTERED = "GFLHead, from weights that differ by rounding"
Curve = list[dict[str, float]]  # the losses of each step


def train(head: str, weights: dict | None, batches: list[dict], steps: int) -> tuple[dict, Curve]:
    """Train a detector of mmdetection.

    Args:
        head: type of its head.
        weights: what it starts from; its own initialisation if None.
        batches: as data loaders yield them, used in turn.
        steps: of the optimiser.

    Returns:
        The weights that it started from, and the losses of every step.
    """
    cfg = model_config("gfl")
    cfg["bbox_head"]["type"] = head
    torch.manual_seed(0)
    model = build(cfg, ours=False).train()
    if weights is None:
        model.init_weights()
    else:
        model.load_state_dict(weights, strict=True)
    start = copy.deepcopy(model.state_dict())
    optimizer = build_optim_wrapper(model, OPTIMIZER)
    curve = []
    for step in range(steps):
        logged = model.train_step(copy.deepcopy(batches[step % len(batches)]), optimizer)
        curve.append({key: value.item() for key, value in logged.items() if "loss" in key})
    return start, curve


def jittered(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return weights that differ from these by about the rounding of float32."""
    torch.manual_seed(1)
    is_float = torch.is_floating_point
    return {key: one * (1 + 1e-7 * torch.randn_like(one)) if is_float(one) else one for key, one in weights.items()}


def apart(curve: Curve, other: Curve, name: str) -> list[float]:
    """Return how far two curves of a loss lie apart, relative to the first, at least ``LEAST``."""
    return [max(abs(a[name] - b[name]) / abs(a[name]), LEAST) for a, b in zip(curve, other, strict=True)]


def draw(theirs: Curve, ours: Curve, again: Curve, out_file: str) -> None:
    """Draw the curves of each loss of both heads, and how far they and those of the third training lie apart."""
    names = sorted(theirs[0], key=lambda name: (name != "loss", name))
    steps = range(1, len(theirs) + 1)
    figure, rows = plt.subplots(2, len(names), figsize=(3.2 * len(names), 5), sharex=True, height_ratios=(2, 1))
    for name, top, bottom in zip(names, *rows, strict=True):
        top.plot(steps, [one[name] for one in theirs], color=PALE, linewidth=7, alpha=0.6, label="GFLHead")
        top.plot(steps, [one[name] for one in ours], color=DARK, linewidth=1.5, marker=".", label="densehead.GFLHead")
        top.set_title(name)
        top.set_ylim(bottom=0)
        rounding = apart(theirs, again, name)
        bottom.semilogy(steps, rounding, color=PALE, linewidth=3, alpha=0.8, label=JITTERED)
        bottom.semilogy(steps, apart(theirs, ours, name), color=DARK, marker=".")
        bottom.set_ylim(LEAST / 2, 0.1)
        bottom.grid(alpha=0.3)
        bottom.set_xlabel("step")
        bottom.xaxis.get_major_locator().set_params(integer=True)
    rows[0][0].set_ylabel("loss")
    rows[1][0].set_ylabel("relative distance\nfrom mmdetection's")
    figure.suptitle("mmdetection's GFL detector with its own head and with densehead's: same start, same batches")
    handles = [*rows[0][0].get_lines(), rows[1][0].get_lines()[0]]
    figure.legend(handles=handles, loc="lower center", ncols=3, frameon=False)
    figure.tight_layout(rect=(0, 0.06, 1, 1))
    Path(out_file).parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out_file, dpi=100)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Draw losses of GFL in mmdetection with either head.")
    parser.add_argument("out_file", help="the picture to write, .png")
    parser.add_argument("--steps", type=int, default=STEPS)
    return parser.parse_args()


def main() -> int:
    args = parse_args()
    warnings.filterwarnings("ignore")  # mmdet's, of what is deprecated
    logging.disable(logging.INFO)  # how each weight was initialised
    batches = [draw_batch(seed) for seed in range(BATCHES)]
    start, theirs = train("GFLHead", None, batches, args.steps)
    _, ours = train("densehead.GFLHead", start, batches, args.steps)
    _, again = train("GFLHead", jittered(start), batches, args.steps)
    print("| step | " + " | ".join(theirs[0]) + " |\n|---|" + "---|" * len(theirs[0]))
    for step, (one, other) in enumerate(zip(theirs, ours, strict=True), 1):
        print(f"| {step} | " + " | ".join(f"{one[key]:.5f} / {other[key]:.5f}" for key in one) + " |")
    draw(theirs, ours, again, args.out_file)
    largest = [max(max(apart(theirs, other, key)) for key in theirs[0]) for other in (ours, again)]
    print(
        "\nmmdetection / densehead; they differ by {:.1%} of a loss at most, and two trainings of mmdetection's head "
        "whose weights differ by rounding by {:.1%}.".format(*largest)
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
