"""Hypothesis strategies: priors, truths, maps and configs of heads, at the edges of what may come."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import torch
from hypothesis import strategies as st
from mmengine.structures import InstanceData

from densehead.structures import DetDataSample

STRIDES = (4, 8, 16, 32)
SEEDS = st.integers(0, 2**32 - 1)  # what arrays are drawn from, which takes hypothesis a number instead of thousands


# ------------------------------------------------------------------------------------------------------- priors


@dataclass(frozen=True)
class Levels:
    """A pyramid: strides in pixels, heights and widths in cells, the image's height and width in pixels."""

    strides: tuple[int, ...]
    sizes: tuple[tuple[int, int], ...]
    image: tuple[int, int]


SIDES = [(high, wide) for high in range(1, 8) for wide in range(1, 8)]
PYRAMIDS = [STRIDES[start:stop] for start in range(4) for stop in range(start + 1, min(start + 3, 4) + 1)]


@st.composite
def levels(draw) -> Levels:
    """One to three levels, each 1 x 1 to 7 x 7 cells, of an image that may end before the last cell does."""
    strides, first = draw(st.sampled_from(PYRAMIDS)), draw(st.sampled_from(SIDES))
    sizes = tuple(tuple(-(-side // 2**level) for side in first) for level in range(len(strides)))
    missing = draw(st.integers(0, strides[0] - 1))
    return Levels(strides, sizes, tuple(side * strides[0] - missing for side in first))


# ------------------------------------------------------------------------------------------------------- truths

KINDS_OF_BOXES = ("usual", "point", "line", "tiny", "outside", "huge", "duplicate", "whole", "flipped")


def boxes_of(kind: str, count: int, image: tuple[int, int], rng: np.random.Generator) -> np.ndarray:
    """Return (count, 4) xyxy of a kind."""
    limit = np.array([image[1], image[0]], dtype=np.float64)
    centre = rng.random((count, 2)) * limit
    half = np.exp(rng.uniform(0, 3, (count, 2)))
    if kind == "point":
        half = np.zeros_like(half)
    elif kind == "line":
        half[:, 0] = 0
    elif kind == "tiny":
        half *= 1e-6
    elif kind == "outside":
        centre += 3 * limit * rng.choice([-1, 1], (count, 2))
    elif kind == "huge":
        half *= 1e6
    elif kind == "duplicate":
        centre[:], half[:] = centre[:1], half[:1]
    elif kind == "whole":
        centre[:], half[:] = limit / 2, limit / 2
    elif kind == "flipped":
        half = -half
    return np.concatenate([centre - half, centre + half], 1).astype(np.float32)


@dataclass(frozen=True)
class Truth:
    """Objects of an image: kinds of boxes with how many of each, ignored regions likewise, and a seed."""

    boxes: tuple[tuple[str, int], ...]
    ignored: tuple[tuple[str, int], ...]
    seed: int

    def sample(self, image: tuple[int, int], num_classes: int, scale_factor: tuple[float, float]) -> DetDataSample:
        rng = np.random.default_rng(self.seed)
        sample = DetDataSample(metainfo=dict(img_shape=image, pad_shape=image, scale_factor=scale_factor))
        for name, groups in (("gt_instances", self.boxes), ("ignored_instances", self.ignored)):
            boxes = np.concatenate([np.zeros((0, 4), np.float32), *(boxes_of(*one, image, rng) for one in groups)])
            labels = rng.integers(0, num_classes, len(boxes))
            setattr(sample, name, InstanceData(bboxes=torch.from_numpy(boxes), labels=torch.from_numpy(labels)))
        return sample


def _groups(most: int, each: int):
    groups = [(kind, count) for count in range(1, each + 1) for kind in KINDS_OF_BOXES]
    return st.lists(st.sampled_from(groups), max_size=most).map(tuple)


CROWDS = [((kind, 50),) for kind in KINDS_OF_BOXES]


def truths():
    """No object to fifty, of any kind, and up to two groups of ignored regions."""
    boxes = st.one_of(_groups(3, 4), _groups(3, 4), st.sampled_from([(), *CROWDS]))
    return st.builds(Truth, boxes, _groups(1, 2), SEEDS)


# --------------------------------------------------------------------------------------------------------- maps

LOGITS = {"zeros": (0.0, 0.0), "small": (0.0, 2.0), "large": (0.0, 1e4), "low": (-1e4, 1.0), "high": (1e4, 1.0)}
DISTANCES = {"zeros": (0.0, 0.0), "small": (0.0, 1.0), "tiny": (-18.0, 1.0), "large": (5.0, 2.0), "huge": (11.0, 0.5)}
HALF = 65504.0


@dataclass(frozen=True)
class MapValues:
    """Kinds of numbers, one for each map, drawn anew for each level; ``is_half`` for float16 but for distances."""

    kinds: tuple[int, ...]
    is_half: bool
    seed: int

    def fill(self, name: str, index: int, shape: tuple[int, ...], rng: np.random.Generator) -> torch.Tensor:
        """Return a leaf with the shape of a map: distances are not negative, anything else is any finite number."""
        is_distance = name.endswith("distances")
        mean, spread = list((DISTANCES if is_distance else LOGITS).values())[self.kinds[index % len(self.kinds)]]
        values = mean + spread * rng.standard_normal(shape)
        if is_distance:
            values = np.zeros(shape) if spread == 0 else np.exp(np.clip(values, -40, 13))
        elif self.is_half:
            values = np.clip(values * (6.5 if spread == 1e4 else 1), -HALF, HALF)
        dtype = torch.float16 if self.is_half and not is_distance else torch.float32
        return torch.from_numpy(values).to(dtype).requires_grad_()


KINDS_OF_MAPS = list(itertools.product(range(len(LOGITS)), repeat=3))


def map_values():
    """Kinds for three maps; distances take those of :data:`DISTANCES`, what else there is those of :data:`LOGITS`."""
    return st.builds(MapValues, st.sampled_from(KINDS_OF_MAPS), st.booleans(), SEEDS)


# --------------------------------------------------------------------------------------------------- head configs

BOX_LOSSES = ("IoULoss", "GIoULoss", "DIoULoss", "CIoULoss", "EIoULoss", "SIoULoss", "BoundedIoULoss", "SmoothL1Loss")
CLASS_LOSSES = {
    "FocalLoss": dict(use_sigmoid=True),
    "QualityFocalLoss": dict(use_sigmoid=True),
    "VarifocalLoss": dict(use_sigmoid=True),
    "CrossEntropyLoss": dict(use_sigmoid=True),
}
ASSIGNERS = ("own", "FCOS", "ATSS", "MaxIoU", "SimOTA", "TaskAligned", "DynamicSoftLabel")
HEADS = ("FCOSHead", "ATSSHead", "GFLHead", "VFNetHead", "PAAHead", "AutoAssignHead", "NanoDetPlusHead")
NORM = dict(type="GN", num_groups=2)


@dataclass(frozen=True)
class HeadConfig:
    """What of a head is varied."""

    kind: str
    strides: tuple[int, ...]
    num_classes: int
    reg_max: int
    variant: bool  # the head's other mode
    assigner: str
    box_loss: str
    class_loss: str | None

    def build_config(self) -> dict:
        cfg = dict(type=self.kind, num_classes=self.num_classes, in_channels=4, feat_channels=4, stacked_convs=1)
        cfg |= dict(norm_cfg=NORM)  # a batch norm trains on no single cell
        cfg |= getattr(self, f"_{'anchors' if self.kind in ('ATSSHead', 'GFLHead', 'PAAHead') else 'points'}")()
        cfg["loss_bbox"] = dict(type=self.box_loss)
        if self.class_loss is not None:
            cfg["loss_cls"] = dict(type=self.class_loss, **CLASS_LOSSES[self.class_loss])
        if self.kind in ("GFLHead", "NanoDetPlusHead"):
            cfg["reg_max"] = self.reg_max
        if (assigner := self._assigner()) is not None:
            cfg["train_cfg"] = dict(assigner=assigner)
        return cfg

    def _points(self) -> dict:
        if self.kind == "NanoDetPlusHead":
            return dict(strides=self.strides, kernel_size=3)
        if self.kind == "AutoAssignHead":
            return dict(strides=self.strides, force_topk=self.variant, topk=2)
        squares = dict(type="AnchorGenerator", ratios=[1.0], scales=[4.0], strides=self.strides)
        ranges = dict(strides=self.strides, regress_ranges=self._ranges(), center_sampling=self.variant)
        if self.kind == "VFNetHead":
            return dict(ranges, anchor_generator=squares, use_atss=not self.variant)
        return dict(ranges, norm_on_bbox=self.variant, centerness_on_reg=self.variant)

    def _anchors(self) -> dict:
        many = self.variant and self.kind != "GFLHead"
        shapes = dict(ratios=[0.5, 1.0], scales=[2.0, 4.0]) if many else dict(ratios=[1.0], scales=[4.0])
        cfg = dict(anchor_generator=dict(type="AnchorGenerator", strides=self.strides, **shapes))
        if self.kind != "GFLHead":
            cfg["bbox_coder"] = dict(type="DeltaXYWHBBoxCoder", target_stds=(0.1, 0.1, 0.2, 0.2))
        if self.kind == "PAAHead" and self.assigner != "own":
            cfg["gmm_scheme"] = "paper"  # rules that give an object a single candidate need it
        return cfg

    def _ranges(self) -> tuple[tuple[float, float], ...]:
        limits = [-1, *(4 * stride for stride in self.strides[:-1]), 1e8]
        return tuple(itertools.pairwise(limits))

    def _assigner(self) -> dict | None:
        more = {
            "FCOS": dict(regress_ranges=self._ranges()),
            "ATSS": dict(topk=9),
            "MaxIoU": dict(pos_iou_thr=0.4, neg_iou_thr=0.3, min_pos_iou=0.0),
            "SimOTA": dict(center_radius=2.5),
            "TaskAligned": dict(topk=13),
            "DynamicSoftLabel": dict(topk=13),
        }
        return None if self.assigner == "own" else dict(type=f"{self.assigner}Assigner", **more[self.assigner])


PARTS = list(itertools.product(ASSIGNERS, BOX_LOSSES, (None, *CLASS_LOSSES)))
FORMS = list(itertools.product((1, 2, 5), (1, 4, 16), (False, True)))


@st.composite
def head_configs(draw, strides: tuple[int, ...]) -> HeadConfig:
    kind = draw(st.sampled_from(HEADS))
    if kind == "VFNetHead" and len(strides) == 1:
        kind = "FCOSHead"  # VFNet takes the unit of its last level from the one before
    assigner, box_loss, class_loss = draw(st.sampled_from(PARTS))
    if kind == "AutoAssignHead":  # which learns the assignment
        assigner, class_loss = "own", None
    return HeadConfig(kind, strides, *draw(st.sampled_from(FORMS)), assigner, box_loss, class_loss)


TEST_CFGS = [
    dict(nms_pre=nms_pre, min_bbox_size=smallest, score_thr=threshold, nms=nms, max_per_img=most)
    for nms_pre in (-1, 1, 20, 1000)
    for smallest in (-1, 0, 3)
    for threshold in (0.0, 0.05, 0.5)
    for nms in (dict(type="nms", iou_threshold=0.6), dict(type="soft_nms", iou_threshold=0.3))
    for most in (1, 20, -1)
]


@dataclass(frozen=True)
class HeadCase:
    """A head, a batch for it, and what its maps hold: numbers of ``values``, or what it makes of features."""

    levels: Levels
    head: HeadConfig
    truths: tuple[Truth, ...]
    values: MapValues | None
    feature_scale: float
    scale_factor: tuple[float, float]
    rescale: bool
    test_cfg: dict
    seed: int

    def samples(self) -> list[DetDataSample]:
        return [one.sample(self.levels.image, self.head.num_classes, self.scale_factor) for one in self.truths]

    def features(self) -> list[torch.Tensor]:
        generator = torch.Generator().manual_seed(self.seed)
        shapes = [(len(self.truths), 4, *size) for size in self.levels.sizes]
        return [(self.feature_scale * torch.randn(s, generator=generator)).requires_grad_() for s in shapes]


@st.composite
def head_cases(draw) -> HeadCase:
    pyramid = draw(levels())
    return HeadCase(
        levels=pyramid,
        head=draw(head_configs(pyramid.strides)),
        truths=tuple(draw(st.lists(truths(), min_size=1, max_size=2))),
        values=draw(st.one_of(st.none(), map_values(), map_values())),
        feature_scale=draw(st.sampled_from((0.0, 1.0, 10.0))),
        scale_factor=draw(st.sampled_from(((1.0, 1.0), (0.5, 0.25), (3.0, 2.0)))),
        rescale=draw(st.booleans()),
        test_cfg=draw(st.sampled_from(TEST_CFGS)),
        seed=draw(SEEDS),
    )
