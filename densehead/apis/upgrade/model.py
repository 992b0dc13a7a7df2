"""Models of mmdetection 2.x."""

from __future__ import annotations

from typing import Any

from densehead.apis.upgrade.data import SPLITS
from densehead.apis.upgrade.pipeline import Moved
from densehead.apis.upgrade.report import Report, merge, rename

# What a loop's train_cfg or test_cfg has, and a head's has not; and the reverse
_LOOP_KEYS = {"type", "by_epoch", "max_epochs", "max_iters", "val_interval", "val_begin", "dynamic_intervals", "fp16"}
_TRAIN_KEYS = {"assigner", "sampler", "allowed_border", "pos_weight", "debug", "initial_epoch", "initial_assigner"}
_TEST_KEYS = {"nms_pre", "min_bbox_size", "score_thr", "nms", "max_per_img", "with_nms"}


def upgrade_model(cfg: dict, moved: dict[str, Moved], report: Report) -> None:
    """Upgrade ``model``, and the ``train_cfg`` and ``test_cfg`` outside of it, in place.

    Args:
        cfg: the whole config.
        moved: what the pipelines leave to the model, by split.
        report: told of every change.
    """
    model = cfg.get("model")
    if not isinstance(model, dict):
        return
    for name in ("train_cfg", "test_cfg"):
        outside = _outside(cfg, name)
        if outside:
            model[name] = merge(model.get(name) or {}, outside)
            report.change(f"{name} (outside of the model)", f"model.{name} = {{}}", model[name])
    _pretrained(model, "model", report)
    _layers(model, "model", report)
    _preprocessor(model, moved, report)


def _outside(cfg: dict, name: str) -> dict:
    """Take what belongs to the head out of a key that is the loop's today."""
    given = cfg.get(name)
    if not isinstance(given, dict):
        return {}
    if not _LOOP_KEYS & set(given):
        return cfg.pop(name)
    return {key: given.pop(key) for key in list(given) if key in _TRAIN_KEYS | _TEST_KEYS}


def drop_unused_assigner(model: Any, report: Report) -> None:
    """Take out the assigner that mmdetection's templates name for heads that never built it; here they would use it."""
    head = (model or {}).get("bbox_head") or {}
    settings = (model or {}).get("train_cfg") or {}
    if head.get("type") not in ("FCOSHead", "AutoAssignHead") or "assigner" not in settings:
        return
    if (settings["assigner"] or {}).get("type") == "MaxIoUAssigner":
        del model["train_cfg"]
        report.changes = [(old, new) for old, new in report.changes if not new.startswith("model.train_cfg =")]
        report.change(
            "model.train_cfg.assigner",
            f"leave it out: mmdetection's {head['type']} never built this assigner, here it would be used",
        )


def _pretrained(model: dict, path: str, report: Report) -> None:
    for owner, key in ((model, path), (model.get("backbone"), f"{path}.backbone")):
        if not isinstance(owner, dict) or not isinstance(owner.get("pretrained", 0), str | None):
            continue
        checkpoint = owner.pop("pretrained")
        backbone = model.get("backbone")
        if checkpoint is None or not isinstance(backbone, dict):
            report.change(f"{key}.pretrained", "is not needed", minor=True)
            continue
        backbone["init_cfg"] = {"type": "Pretrained", "checkpoint": checkpoint}
        report.change(f"{key}.pretrained", f"{path}.backbone.init_cfg = {{}}", backbone["init_cfg"])


def _layers(node: Any, path: str, report: Report) -> None:
    """Upgrade keys of necks, heads and their settings, wherever they are."""
    if isinstance(node, list | tuple):
        for index, one in enumerate(node):
            _layers(one, f"{path}[{index}]", report)
    if not isinstance(node, dict):
        return
    if "extra_convs_on_inputs" in node:
        on_inputs = node.pop("extra_convs_on_inputs")
        if node.get("add_extra_convs") is True:
            node["add_extra_convs"] = "on_input" if on_inputs else "on_output"
        said = {"add_extra_convs": node.get("add_extra_convs", False)}
        report.change(f"{path}.extra_convs_on_inputs", f"{path} = {{}}", said)
    if "background_label" in node:
        del node["background_label"]
        report.change(f"{path}.background_label", "is not needed: the background is the class after the last")
    if "iou_thr" in node and node.get("type") in ("nms", "soft_nms"):
        rename(node, iou_thr="iou_threshold")
        report.change(f"{path}.iou_thr", f"{path}.iou_threshold = {{}}", node["iou_threshold"])
    for key, value in node.items():
        _layers(value, f"{path}.{key}", report)


def _preprocessor(model: dict, moved: dict[str, Moved], report: Report) -> None:
    """Write what pipelines no longer do: what the training's do counts, where those of the test differ from it."""
    if not moved:
        return
    new: dict[str, Any] = {}
    for split in sorted(moved, key=SPLITS.index):
        found = moved[split].preprocessor
        for key in [key for key in found if new.setdefault(key, found[key]) != found[key]]:
            report.remark(f"data.{split}.pipeline", f"{key} is {found[key]} there, but {new[key]} is taken for all")
    given = model.get("data_preprocessor")
    base = given if isinstance(given, dict) else {"type": "DetDataPreprocessor"}
    new = merge(base, new)
    model.pop("data_preprocessor", None)
    items = list(model.items())
    model.clear()  # it is written where a reader looks for it: right after the type
    model.update(items[:1] if items and items[0][0] == "type" else [])
    model["data_preprocessor"] = new
    model.update(items)
