"""What heads are measured on: drawn ground truths, and level maps as a trained detector would put them out."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from densehead.models.heads.base import DenseHead
from densehead.models.heads.fcos import FCOSHead
from densehead.structures import Priors
from densehead.typing import LevelMaps, Size

SMALLEST, LARGEST = 16.0, 512.0  # sides of ground truths, pixels
# Mean and deviation of logits: of classes that are not there, of an object's class at all places inside of it, and at
# the places that answer for it
ABSENT, INSIDE, ANSWERING = (-6.0, 1.0), (-5.0, 1.0), (0.5, 1.5)
QUALITY = {"absent": (-2.0, 1.0), "inside": (-0.5, 1.0), "answering": (1.5, 1.0)}
REACH = 1.5  # how far from the centre places answer for an object, strides
SIDES = (4.0, 24.0)  # of the objects that a level answers for, strides
JITTER = {"inside": 0.15, "answering": 0.06}  # of a predicted side, relative to the true box's size


@dataclass(frozen=True)
class Scene:
    """The truth of a batch.

    Attributes:
        truths: of each image ``bboxes`` (n, 4) xyxy in pixels and ``labels`` (n,).
        metas: of each image.
        size: height and width of all images, pixels.
        num_classes: labels are below it.
    """

    truths: list[InstanceData]
    metas: list[dict]
    size: Size
    num_classes: int

    @property
    def num_truths(self) -> list[int]:
        """Ground truths of each image."""
        return [len(one) for one in self.truths]


@dataclass(frozen=True)
class Maps:
    """What a head's ``forward`` puts out: of each quantity one ``(B, c, h, w)`` a level.

    Attributes:
        training: arguments of ``loss_by_feat``, leaves that require gradients.
        prediction: arguments of ``predict_by_feat``.
    """

    training: tuple[LevelMaps, ...]
    prediction: tuple[LevelMaps, ...]

    def leaves(self) -> list[Tensor]:
        """Return the maps that gradients flow to."""
        return [level for levels in self.training for level in levels]


def draw_scene(images: int, size: Size, truths: int, classes: int, *, seed: int = 0, device: str = "cpu") -> Scene:
    """Draw ground truths: sides log-uniform between 16 and 512 pixels, places and labels uniform.

    Args:
        images: in the batch.
        size: height and width of the images, pixels.
        truths: ground truths of each image.
        classes: labels are below it.
        seed: of the random numbers; the same on every device.
        device: where the boxes lie.
    """
    generator = torch.Generator().manual_seed(seed)
    height, width = size
    drawn = []
    for _ in range(images):
        extent = SMALLEST * (LARGEST / SMALLEST) ** torch.rand(truths, 2, generator=generator)
        ratio = (extent[:, 1] / extent[:, 0]).clamp(0.5, 2.0)  # longer shapes are rare
        extent[:, 1] = (extent[:, 0] * ratio).clamp(SMALLEST, LARGEST)
        room = torch.tensor([float(width), float(height)])
        extent = extent.minimum(room)
        corner = torch.rand(truths, 2, generator=generator) * (room - extent)
        boxes = torch.cat([corner, corner + extent], 1).to(device)
        labels = torch.randint(classes, (truths,), generator=generator).to(device)
        drawn.append(InstanceData(bboxes=boxes, labels=labels))
    meta = dict(img_shape=size, pad_shape=size, ori_shape=size, batch_input_shape=size, scale_factor=(1.0, 1.0))
    return Scene(drawn, [dict(meta) for _ in range(images)], size, classes)


def draw_maps(head: DenseHead, scene: Scene, *, seed: int = 0, device: str = "cpu") -> Maps:
    """Draw level maps of a head that has learned: most scores low, those near objects high, boxes near the true ones.

    Args:
        head: says where it predicts from and how boxes are encoded.
        scene: what the maps are of.
        seed: of the random numbers.
        device: where the maps lie.
    """
    generator = torch.Generator().manual_seed(seed + 1)
    sizes = [tuple(-(-side // int(stride)) for side in scene.size) for stride in _strides(head)]
    priors = head.prior_generator.priors(sizes, torch.device("cpu"))
    names = head.map_names
    drawn: dict[str, list[Tensor]] = {name: [] for name in names}
    for truth in scene.truths:
        image = _Image(priors, truth.bboxes.cpu(), truth.labels.cpu(), generator)
        for name in names:
            drawn[name].append(_quantity(head, name, image, scene.num_classes))
    maps = {name: _levels(torch.stack(rows), priors, sizes, head.num_base_priors) for name, rows in drawn.items()}
    maps = {name: [level.to(device) for level in levels] for name, levels in maps.items()}
    predicted = [name for name in names if name != "initial_deltas"]  # VFNet's first guess trains only
    training = {name: [level.clone() for level in levels] for name, levels in maps.items()}
    if type(head) is FCOSHead and head.norm_on_bbox:  # it trains in strides
        training["box_deltas"] = [
            level / stride for level, stride in zip(maps["box_deltas"], _strides(head), strict=True)
        ]
    return Maps(
        tuple([level.requires_grad_() for level in training[name]] for name in names),
        tuple(maps[name] for name in predicted),
    )


def count_candidates(maps: Maps, score_thr: float) -> float:
    """Return how many class scores of an image are above the threshold, on average."""
    logit = torch.tensor(score_thr).logit()
    scores = maps.prediction[0]
    return sum((level > logit).sum().item() for level in scores) / scores[0].shape[0]


class _Image:
    """Which object every prior of an image belongs to, and what a detector would say there."""

    def __init__(self, priors: Priors, boxes: Tensor, labels: Tensor, generator: torch.Generator) -> None:
        self.priors, self.generator = priors, generator
        owner = torch.full((len(priors),), -1)
        self.is_answering = torch.zeros(len(priors), dtype=torch.bool)
        extent = boxes[:, 2:] - boxes[:, :2]
        for index in extent.prod(1).argsort(descending=True).tolist():  # smaller objects lie in front
            box, side = boxes[index], extent[index].amax()
            inside = ((priors.points > box[:2]) & (priors.points < box[2:])).all(1)
            away = (priors.points - (box[:2] + box[2:]) / 2).abs().amax(1) / priors.strides
            strides = side / priors.strides
            is_level = (strides >= SIDES[0]) & (strides < SIDES[1]) | (priors.level_index == 0) & (strides < SIDES[0])
            answers = inside & (away < REACH) & is_level
            taken = inside & (answers | ~self.is_answering)
            owner[taken] = index
            self.is_answering[taken] = answers[taken]
        self.is_inside = (owner >= 0) & ~self.is_answering
        self.is_owned = owner >= 0
        self.labels = labels[owner.clamp(min=0)] if len(labels) else owner
        self.truth = boxes[owner.clamp(min=0)] if len(boxes) else None

    def class_logits(self, num_classes: int) -> Tensor:
        """(P, C)."""
        logits = self._normal(len(self.priors), num_classes) * ABSENT[1] + ABSENT[0]
        for where, (mean, deviation) in ((self.is_inside, INSIDE), (self.is_answering, ANSWERING)):
            rows = where.nonzero().squeeze(1)
            logits[rows, self.labels[rows]] = self._normal(len(rows)) * deviation + mean
        return logits

    def quality_logits(self) -> Tensor:
        """(P, 1)."""
        logits = self._normal(len(self.priors), 1) * QUALITY["absent"][1] + QUALITY["absent"][0]
        for name, where in (("inside", self.is_inside), ("answering", self.is_answering)):
            logits[where] = self._normal(int(where.sum()), 1) * QUALITY[name][1] + QUALITY[name][0]
        return logits

    def boxes(self) -> Tensor:
        """(P, 4) xyxy in pixels: near the true box where there is one, anything elsewhere."""
        points, strides = self.priors.points, self.priors.strides[:, None]
        half = strides * 3 * (self._normal(len(points), 2) * 0.5).exp()
        boxes = torch.cat([points - half, points + half], 1)
        if self.truth is not None:
            extent = (self.truth[:, 2:] - self.truth[:, :2]).repeat(1, 2)
            share = torch.where(self.is_answering, JITTER["answering"], JITTER["inside"])[:, None]
            near = self.truth + self._normal(len(points), 4) * share * extent
            boxes = torch.where(self.is_owned[:, None], near, boxes)
        return boxes

    def _normal(self, *shape: int) -> Tensor:
        return torch.randn(*shape, generator=self.generator)


def _quantity(head: DenseHead, name: str, image: _Image, num_classes: int) -> Tensor:
    """(P, c) what a head's map of that name says of an image."""
    if name == "cls_logits":
        return image.class_logits(num_classes)
    if name == "quality_logits":
        return image.quality_logits()
    priors, boxes = image.priors, image.boxes()
    if not priors.are_points and name == "box_deltas":
        return head.bbox_coder.encode(priors.boxes, boxes)
    ltrb = torch.cat([priors.points - boxes[:, :2], boxes[:, 2:] - priors.points], 1).clamp(min=0.5)
    if name != "box_logits":
        return ltrb
    place = (ltrb / priors.strides[:, None]).clamp(max=head.reg_max)[..., None]
    return (-2 * (torch.arange(head.reg_max + 1) - place) ** 2).clamp(min=-8).flatten(1)


def _levels(values: Tensor, priors: Priors, sizes: list[Size], num_base_priors: int) -> list[Tensor]:
    """Return of (B, P, c) one (B, A * c, h, w) a level."""
    parts = values.split(list(priors.num_level_priors), 1)
    return [
        part.unflatten(1, (*size, num_base_priors)).flatten(3).permute(0, 3, 1, 2).contiguous()
        for part, size in zip(parts, sizes, strict=True)
    ]


def _strides(head: DenseHead) -> list[float]:
    return [stride[0] for stride in head.prior_generator.strides]
