"""The two that are compared: a head of densehead, and the same head of mmdetection where that can be imported."""

from __future__ import annotations

import copy
import logging
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope
from mmengine.structures import InstanceData
from torch import Tensor, nn

from densehead.apis.benchmark.scene import Maps, Scene
from densehead.apis.options import load_config
from densehead.registry import MODELS
from densehead.structures import Targets

CONFIGS = {
    "fcos": "fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py",
    "atss": "atss/atss_r50_fpn_1x_coco.py",
    "gfl": "gfl/gfl_r50_fpn_1x_coco.py",
    "vfnet": "vfnet/vfnet_r50_fpn_1x_coco.py",
    "paa": "paa/paa_r50_fpn_1x_coco.py",
    "autoassign": "autoassign/autoassign_r50-caffe_fpn_1x_coco.py",
    "nanodet": "nanodet/nanodet-plus-m_416_coco.py",
}
NAMES = {
    "fcos": "FCOS",
    "atss": "ATSS",
    "gfl": "GFL",
    "vfnet": "VFNet",
    "paa": "PAA",
    "autoassign": "AutoAssign",
    "nanodet": "NanoDet-Plus",
}
COMPILED = ", compiled"  # after the name of a head that compiles its losses
NAMES = {name + end: title + end for name, title in NAMES.items() for end in ("", COMPILED)}
OURS, THEIRS = "densehead", "mmdet"
STAGES = ("assign", "loss", "loss+backward", "predict")


class Side:
    """A head with all that its calls take. Each stage is a method without arguments.

    Args:
        head: of densehead or of mmdetection.
        maps: that it put out.
        scene: that they are of.
    """

    def __init__(self, head: nn.Module, maps: Maps, scene: Scene) -> None:
        self.head, self.maps, self.scene = head, maps, scene

    def stages(self) -> dict[str, Callable[[], object]]:
        """Return what can be measured, by name; ``assign`` where the head has a rule of its own to call."""
        found = dict(zip(STAGES, (self.assigning(), self.loss, self.loss_backward, self.predict), strict=True))
        return {name: call for name, call in found.items() if call is not None}

    def assigning(self) -> Callable[[], object] | None:
        """Return the call of the assigner alone, or None for a head without."""
        raise NotImplementedError

    def loss(self) -> Tensor:
        """Return the sum of the losses, with what their gradients take."""
        self.head.train()
        losses = self.head.loss_by_feat(*self.maps.training, self.scene.truths, self.scene.metas)
        parts = [value for key, value in losses.items() if "loss" in key]
        return sum(sum(part) if isinstance(part, (list, tuple)) else part for part in parts)

    def loss_backward(self) -> None:
        """Compute the losses and their gradients at the maps."""
        self.loss().backward()

    @torch.no_grad()
    def predict(self) -> list[InstanceData]:
        """Return the detections of all images."""
        self.head.eval()
        return self.head.predict_by_feat(*self.maps.prediction, batch_img_metas=self.scene.metas, rescale=False)

    def reset(self) -> None:
        """Forget the gradients."""
        for leaf in self.maps.leaves():
            leaf.grad = None
        for parameter in self.head.parameters():  # AutoAssign learns where objects are
            parameter.grad = None


class OurSide(Side):
    """A head of densehead."""

    def assigning(self) -> Callable[[], object] | None:
        """See the base class; the truth's padding counts, PAA's mixtures do not."""
        head, scene = self.head, self.scene
        if head.assigner is None:
            return None
        maps = self.maps.training
        device = maps[0][0].device
        priors = head._training_priors(maps[0], scene.metas)
        predictions = head._read(maps, priors)
        if head.assigner.needs_extent and priors.are_points:
            priors = priors.as_squares(head.train_cfg.get("point_box_scale", 8))

        @torch.no_grad()
        def assign() -> object:
            targets = Targets.from_instances(scene.truths, num_classes=head.num_classes, device=device)
            return head.assigner(priors, targets, predictions)

        return assign


class TheirSide(Side):
    """A head of mmdetection."""

    def assigning(self) -> Callable[[], object] | None:
        """See the base class: the assigner's call image by image, or FCOS's own way to targets."""
        if type(self.head).__name__ == "FCOSHead":
            return self._fcos_targets()
        if getattr(self.head, "assigner", None) is None:
            return None
        head, scene = self.head, self.scene
        maps = self.maps.training[0]
        anchors = head.get_anchors([level.shape[-2:] for level in maps], scene.metas, device=maps[0].device)[0][0]
        given = InstanceData(priors=torch.cat(anchors))
        counts = [len(level) for level in anchors]
        takes_counts = "ATSS" in type(head.assigner).__name__

        @torch.no_grad()
        def assign() -> object:
            options = {"num_level_priors": counts} if takes_counts else {}
            return [head.assigner.assign(pred_instances=given, gt_instances=truth, **options) for truth in scene.truths]

        return assign

    def _fcos_targets(self) -> Callable[[], object]:
        head, scene = self.head, self.scene
        maps = self.maps.training[0]
        sizes = [level.shape[-2:] for level in maps]
        points = head.prior_generator.grid_priors(sizes, dtype=maps[0].dtype, device=maps[0].device)
        return torch.no_grad()(lambda: head.get_targets(points, scene.truths))


def head_config(path: str | Path, num_classes: int) -> ConfigDict:
    """Return a head's config, with ``train_cfg`` and ``test_cfg`` as its detector hands them over.

    Args:
        path: of the config of a detector.
        num_classes: in place of the config's.

    Raises:
        FileNotFoundError, ValueError: see :func:`densehead.apis.load_config`; or the config has no ``bbox_head``.
    """
    model = load_config(path).get("model") or {}
    if "bbox_head" not in model:
        raise ValueError(f"{path} has no model.bbox_head: give the config of a detector with a dense head")
    head = copy.deepcopy(model.bbox_head)
    head.num_classes = num_classes
    for name in ("train_cfg", "test_cfg"):
        if model.get(name) is not None:
            head[name] = copy.deepcopy(model[name])
    return head


def build_ours(cfg: ConfigDict, device: str) -> nn.Module:
    """Build densehead's head of a config."""
    with DefaultScope.overwrite_default_scope("densehead"):
        return MODELS.build(copy.deepcopy(cfg)).to(device)


def build_theirs(cfg: ConfigDict, device: str) -> nn.Module | None:
    """Build mmdetection's head of the same config; None where it has none of that name."""
    registry = import_mmdet()
    if registry is None or cfg.type not in registry.module_dict:
        return None
    with DefaultScope.overwrite_default_scope("mmdet"):
        return registry.build(copy.deepcopy(cfg)).to(device)


def import_mmdet() -> object | None:
    """Return mmdetection's registry of models, or None where it cannot be imported."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import mmdet.models  # noqa: F401
            from mmdet.registry import MODELS as registry
    except ImportError:
        return None
    finally:
        logging.disable(level)
    return registry
