"""Assigners of other frameworks, mmdetection's and those written like them, in densehead's heads."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.structures import InstanceData
from torch import Tensor

from densehead.models.assigners.base import AssignResult, BaseAssigner
from densehead.registry import TASK_UTILS
from densehead.structures import IGNORED, Assignment, Predictions, Priors, Targets
from densehead.typing import ConfigDict


@dataclass(frozen=True)
class Form:
    """What ``pred_instances`` holds when an assigner is called.

    Attributes:
        priors: ``'boxes'``, (P, 4) xyxy; or ``'points'``, (P, 4) x, y, stride, stride; all in pixels.
        scores: ``'scores'``, (P, C) class probabilities; ``'logits'``, the same before the sigmoid; or None: neither
            these nor ``bboxes`` (P, 4) are there.
        sees_overlaps: whether ``max_overlaps`` of the result are IoUs of predicted boxes.
    """

    priors: str = "boxes"
    scores: str | None = "scores"
    sees_overlaps: bool = False


# As mmdetection's heads call them; by the name of the class or of a parent.
FORMS = {
    "ATSSAssigner": Form(scores=None),
    "MaxIoUAssigner": Form(scores=None),
    "CenterRegionAssigner": Form(scores=None),
    "PointAssigner": Form("points", None),
    "SimOTAAssigner": Form("points", "scores", sees_overlaps=True),
    "TaskAlignedAssigner": Form("boxes", "scores", sees_overlaps=True),
    "DynamicSoftLabelAssigner": Form("points", "logits", sees_overlaps=True),
}
UNFIT = {
    "ApproxMaxIoUAssigner": "several approximations of each prior (guided anchors)",
    "GridAssigner": "the cells that YOLO holds responsible for objects",
    "HungarianAssigner": "image metas, for one-to-one costs of queries",
    "TopkHungarianAssigner": "image metas, for one-to-one costs of queries",
    "MultiInstanceAssigner": "several objects for one prior, which dense heads do not predict",
    "RegionAssigner": "the anchors' scale and the maps' sizes (guided anchors)",
    "UniformAssigner": "YOLOF's own decoded priors",
}
OFFERED = ("pred_instances", "gt_instances", "gt_instances_ignore", "num_level_priors")


class ForeignAssigner(BaseAssigner):
    """Calls an assigner that answers for one image, image after image, and joins what it says.

    Priors that do not count for an image are left out of the call. What the assigner finds in ``pred_instances`` is
    the :class:`Form` of its name in ``FORMS``; of one that is not listed there (nor a parent of its class) it is prior
    boxes, predicted boxes and class probabilities. Such an assigner may say otherwise by class attributes of the names
    ``prior_form`` (``'boxes'`` or ``'points'``) and ``score_form`` (``'scores'``, ``'logits'`` or None).

    Args:
        rule: with ``assign(pred_instances, gt_instances, gt_instances_ignore, ...)``, which returns ``gt_inds`` (P,):
            0 for background, -1 for ignored, ``k + 1`` for ground truth ``k``. It is called by these names;
            ``num_level_priors`` is handed over if it has an argument of that name.

    Raises:
        TypeError: no ``assign``, or one that wants arguments which a dense head does not have.
        ValueError: an unknown ``prior_form`` or ``score_form``.
    """

    def __init__(self, rule: Any) -> None:
        self.rule = rule
        self.form = _form_of(rule)
        self.needs_extent = self.form.priors == "boxes"
        self.needs_predictions = self.form.scores is not None
        self._wanted = _wanted_arguments(rule)

    @torch.no_grad()
    def __call__(self, priors: Priors, targets: Targets, predictions: Predictions | None = None) -> Assignment:
        """Assign every prior of every image; see the base class."""
        is_valid = priors.valid_mask()
        shape, device = (targets.num_images, len(priors)), priors.points.device
        gt_index = torch.full(shape, IGNORED, device=device)
        overlaps = torch.zeros(shape, device=device)
        every = torch.arange(len(priors), device=device)
        for image in range(targets.num_images):
            index = every if is_valid is None else is_valid[image].nonzero()[:, 0]
            result = self._ask(image, index, priors, targets, predictions)
            gt_index[image, index] = result.gt_inds.to(device) - 1  # NEGATIVE is -1, IGNORED -2
            if result.max_overlaps is not None:
                overlaps[image, index] = result.max_overlaps.to(overlaps).clamp(min=0)
        has_overlaps = self.form.sees_overlaps or not self.needs_predictions
        return Assignment(gt_index, overlaps if has_overlaps else None, has_ignored=True)

    def assign(self, *args, **kwargs) -> AssignResult:
        """Answer for one image, as the rule itself does."""
        return self.rule.assign(*args, **kwargs)

    def _ask(
        self, image: int, index: Tensor, priors: Priors, targets: Targets, predictions: Predictions | None
    ) -> AssignResult:
        """Call the rule for the priors ``index`` (n,) of an image."""
        count, regions = targets.counts[image], targets.ignore_is_valid[image]
        ignored = InstanceData(bboxes=targets.ignore_boxes[image][regions]) if len(regions) else None
        offered = dict(
            pred_instances=self._instances(image, index, priors, predictions),
            gt_instances=InstanceData(bboxes=targets.boxes[image, :count], labels=targets.labels[image, :count]),
            gt_instances_ignore=ignored,
            num_level_priors=priors.level_index[index].bincount(minlength=priors.num_levels).tolist(),
        )
        result = self.rule.assign(**{name: offered[name] for name in self._wanted})
        gt_inds = getattr(result, "gt_inds", None)
        if not isinstance(gt_inds, Tensor) or gt_inds.shape != index.shape:
            raise TypeError(
                f"{type(self.rule).__name__}.assign must return gt_inds of shape ({len(index)},), one a prior (0 for "
                f"background, -1 for ignored, k + 1 for ground truth k), but returned {_described(result, gt_inds)}"
            )
        return result

    def _instances(self, image: int, index: Tensor, priors: Priors, predictions: Predictions | None) -> InstanceData:
        if self.form.priors == "boxes":
            instances = InstanceData(priors=priors.boxes[index])
        else:
            instances = InstanceData(priors=torch.cat([priors.points, priors.strides[:, None].repeat(1, 2)], 1)[index])
        if not self.needs_predictions:
            return instances
        if predictions is None:
            raise ValueError(
                f"{type(self.rule).__name__} is given predicted boxes and class scores, but there are no predictions: "
                "call it with (priors, targets, predictions)"
            )
        where = torch.full_like(index, image), index
        read = predictions.scores_at if self.form.scores == "scores" else predictions.logits_at
        instances.bboxes, instances.scores = predictions.boxes_at(*where), read(*where)
        return instances


def build_assigner(cfg: ConfigDict) -> BaseAssigner:
    """Build the assigner of a head; another framework's comes in a :class:`ForeignAssigner`.

    Raises:
        TypeError: what is built assigns nothing, or wants what a dense head does not have.
    """
    assigner = TASK_UTILS.build(cfg)
    return assigner if isinstance(assigner, BaseAssigner) else ForeignAssigner(assigner)


def _form_of(rule: Any) -> Form:
    names = [kind.__name__ for kind in type(rule).__mro__]
    listed = next((FORMS[name] for name in names if name in FORMS), Form())
    if "ATSSAssigner" in names and getattr(rule, "alpha", None) is not None:  # DDOD's, which mixes scores in
        listed = Form("boxes", "logits")
    form = Form(
        getattr(rule, "prior_form", listed.priors), getattr(rule, "score_form", listed.scores), listed.sees_overlaps
    )
    for key, value, known in (
        ("prior_form", form.priors, ("boxes", "points")),
        ("score_form", form.scores, ("scores", "logits", None)),
    ):
        if value not in known:
            raise ValueError(f"{type(rule).__name__}.{key} must be one of {known}, but is {value!r}")
    return form


def _wanted_arguments(rule: Any) -> list[str]:
    """Return the names of ``OFFERED`` by which the rule's ``assign`` is called."""
    name = type(rule).__name__
    if not callable(getattr(rule, "assign", None)):
        raise TypeError(
            f"train_cfg.assigner must name an assigner, but {name} has no assign(pred_instances, gt_instances, ...)"
        )
    reason = next((UNFIT[kind.__name__] for kind in type(rule).__mro__ if kind.__name__ in UNFIT), None)
    if reason is not None:
        raise TypeError(f"train_cfg.assigner: {name} does not fit a dense head, for it wants {reason}")
    parameters = inspect.signature(rule.assign).parameters.values()
    named = [one for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)]
    missing = [one.name for one in named if one.default is one.empty and one.name not in OFFERED]
    if missing or "pred_instances" not in (one.name for one in named):
        raise TypeError(
            f"train_cfg.assigner: {name}.assign must take pred_instances and gt_instances, and may take "
            f"gt_instances_ignore and num_level_priors, but its arguments are {[one.name for one in named]}"
            + (f"; a dense head has no {', '.join(missing)}" if missing else "")
        )
    return [one.name for one in named if one.name in OFFERED]


def _described(result: Any, gt_inds: Any) -> str:
    if isinstance(gt_inds, Tensor):
        return f"gt_inds of shape {tuple(gt_inds.shape)}"
    return f"a {type(result).__name__} with {'no gt_inds' if gt_inds is None else f'gt_inds {gt_inds!r}'}"
