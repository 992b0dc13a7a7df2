"""Heads and assigners by name, fitted to the detector of a config."""

from __future__ import annotations

import ast
import copy
import inspect
import math
from collections.abc import Mapping
from typing import Any

from densehead.arguments import accepted_keys
from densehead.models.heads import DenseHead
from densehead.registry import MODELS, TASK_UTILS

FOCAL = dict(type="FocalLoss", use_sigmoid=True, gamma=2.0, alpha=0.25, loss_weight=1.0)
QUALITY_FOCAL = dict(type="QualityFocalLoss", use_sigmoid=True, beta=2.0, loss_weight=1.0)
ANCHOR_CODER = dict(type="DeltaXYWHBBoxCoder", target_means=(0.0, 0.0, 0.0, 0.0), target_stds=(0.1, 0.1, 0.2, 0.2))
#: What papers and configs set besides the defaults of the classes, as far as it bears on positives and their weights.
PAPERS: dict[str, dict] = {
    "FCOSHead": dict(
        center_sampling=True,
        norm_on_bbox=True,
        centerness_on_reg=True,
        conv_bias=True,
        loss_bbox=dict(type="GIoULoss"),
    ),
    "ATSSHead": dict(bbox_coder=ANCHOR_CODER, loss_cls=FOCAL, loss_bbox=dict(type="GIoULoss", loss_weight=2.0)),
    "GFLHead": dict(loss_cls=QUALITY_FOCAL, loss_bbox=dict(type="GIoULoss", loss_weight=2.0)),
    "PAAHead": dict(bbox_coder=ANCHOR_CODER, loss_cls=FOCAL, loss_bbox=dict(type="GIoULoss", loss_weight=1.3)),
    "AutoAssignHead": dict(loss_bbox=dict(type="GIoULoss", loss_weight=5.0)),
    "NanoDetPlusHead": dict(norm_cfg=dict(type="BN")),
}
#: What the rules are asked for with by the configs of their papers.
RULES: dict[str, dict] = {
    "ATSSAssigner": dict(topk=9),
    "MaxIoUAssigner": dict(pos_iou_thr=0.5, neg_iou_thr=0.4, min_pos_iou=0.0),
    "TaskAlignedAssigner": dict(topk=13),
}
USUAL_SCALE = 8  # the side of an object that a level is made for, in strides


def parse_choice(text: str, flag: str) -> tuple[str, dict[str, Any]]:
    """Read ``NAME`` or ``NAME:key=value,key=value``, with values as Python writes them.

    Args:
        text: what was given.
        flag: of the command line, for the message.

    Raises:
        ValueError: it is written otherwise.
    """
    name, _, options = text.partition(":")
    try:
        call = ast.parse(f"dict({options})", mode="eval").body
        if call.args or not all(one.arg for one in call.keywords):
            raise ValueError("every option needs a name")
        return name, {one.arg: ast.literal_eval(one.value) for one in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise ValueError(
            f"{flag} must be NAME or NAME:key=value,key=value with values of Python (topk=9, gmm_scheme='paper'), "
            f"but got {text!r}"
        ) from error


def assigner_config(name: str, options: Mapping[str, Any], own: DenseHead) -> dict[str, Any]:
    """Return the config of an assigner for a head: as its paper has it, and as ``options`` say.

    Ranges of sizes, which FCOS's rule wants for every level, are the head's own, or begin and end where those of its
    levels would; see :func:`regress_ranges`.

    Args:
        name: type of the assigner.
        options: its keys.
        own: the head that it is for.

    Raises:
        KeyError: nothing has this name.
    """
    kind = TASK_UTILS.get(name)
    ranges = {"regress_ranges": regress_ranges(own)} if "regress_ranges" in accepted_keys(kind) else {}
    return {"type": name, **ranges, **copy.deepcopy(RULES.get(name, {})), **options}


def head_config(name: str, options: Mapping[str, Any], own: DenseHead, own_cfg: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of a head in the place of a detector's own.

    It has the classes, channels and strides of the own head, is made for objects of the same sizes
    (:func:`object_scale`), and is otherwise as in its paper. A head of the own type is the own one.

    Args:
        name: type of the head.
        options: its keys.
        own: the head of the detector.
        own_cfg: its config.

    Raises:
        KeyError: nothing has this name.
        ValueError: what has it is no dense head.
    """
    kind = MODELS.get(name)
    if not _is_head(kind):
        known = sorted(key for key, one in MODELS.module_dict.items() if _is_head(one))
        raise ValueError(f"--heads {name}: that is no dense head, as these are: {', '.join(known)}")
    if kind is type(own):
        return {**copy.deepcopy(dict(own_cfg)), **options}
    strides = [stride[0] for stride in own.prior_generator.strides]
    anchors = {"ratios": [1.0], "octave_base_scale": object_scale(own), "scales_per_octave": 1, "strides": strides}
    offered = {
        "strides": strides,
        "regress_ranges": regress_ranges(own),
        "anchor_generator": {"type": "AnchorGenerator", **anchors},
        "feat_channels": own.feat_channels,
        "norm_cfg": {"type": "GN", "num_groups": math.gcd(32, own.feat_channels)},
    }
    fitted = {key: offered[key] for key in accepted_keys(kind) if key in offered}
    cfg = {"type": name, "num_classes": own.num_classes, "in_channels": own.in_channels, **fitted}
    return {**cfg, **copy.deepcopy(PAPERS.get(name, {})), **options}


def object_scale(head: DenseHead) -> float:
    """Return the side of the objects that a level of a head is made for, in strides: of its anchors or ranges."""
    scales = getattr(getattr(head, "atss_prior_generator", head.prior_generator), "scales", None)
    if scales is not None:
        return float(min(scales))
    if hasattr(head, "regress_ranges"):
        return head.regress_ranges[0][1] / head.prior_generator.strides[0][0]
    return USUAL_SCALE


def regress_ranges(head: DenseHead) -> tuple[tuple[float, float], ...]:
    """Return for each level of a head the distances (pixels) that FCOS's rule leaves to it.

    They are the head's own; else those up to :func:`object_scale` strides of a level are the level's, as in FCOS's
    paper, in which they are 64 pixels for a stride of 8.
    """
    own = getattr(head, "regress_ranges", None)
    if own is not None and len(own) == len(head.prior_generator.strides):
        return tuple(own)
    limits = [object_scale(head) * stride[0] for stride in head.prior_generator.strides]
    return tuple(zip([-1, *limits[:-1]], [*limits[:-1], 1e8], strict=True))


def _is_head(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, DenseHead) and kind.losses is not DenseHead.losses
