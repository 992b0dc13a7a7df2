"""Data pipelines of mmdetection 2.x."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from densehead.apis.upgrade.report import Report, rename
from densehead.registry import TRANSFORMS

TEST_META = ("img_id", "img_path", "ori_shape", "img_shape", "scale_factor")
_OLD_TYPES = {"DefaultFormatBundle", "Collect", "ImageToTensor", "MultiScaleFlipAug"}
_OLD_KEYS = {"Resize": {"img_scale", "multiscale_mode"}, "RandomFlip": {"flip_ratio"}}
# of Collect; None for what is no longer the pipeline's to say
_META = {"filename": "img_path", "ori_filename": None, "pad_shape": None, "img_norm_cfg": None, "img_fields": None}


@dataclass
class Moved:
    """What a pipeline no longer does itself.

    Attributes:
        preprocessor: keys of ``model.data_preprocessor``.
        views: (scales, flip directions) of a test with more than one view of each image, else None.
    """

    preprocessor: dict = field(default_factory=dict)
    views: tuple[list, list] | None = None


def is_old(steps: Any) -> bool:
    """Tell whether transforms are spelled as in mmdetection 2.x."""
    if isinstance(steps, Mapping):
        kind = steps.get("type")
        return kind in _OLD_TYPES or bool(_OLD_KEYS.get(kind, set()) & set(steps)) or any(map(is_old, steps.values()))
    return isinstance(steps, list | tuple) and any(map(is_old, steps))


def upgrade_pipeline(steps: Sequence[dict], path: str, report: Report, *, test: bool) -> tuple[list[dict], Moved]:
    """Return the transforms in today's spelling, and what they leave to others.

    Args:
        steps: of mmdetection 2.x.
        path: their key in the config.
        report: told of every change.
        test: whether it is the pipeline of a validation or test, where truth is loaded after the image is resized.
    """
    moved = Moved()
    steps = _Steps(path, report, moved, test)(copy.deepcopy(list(steps)))
    if test and not any(one["type"] == "LoadAnnotations" for one in steps):
        steps.insert(-1, {"type": "LoadAnnotations", "with_bbox": True})
    for one in steps:
        if one["type"] not in TRANSFORMS:
            report.remark(f"{path}: {one['type']}", "there is no such transform; it is kept as it is")
    return steps, moved


class _Steps:
    """Turns transforms over, one after the other."""

    def __init__(self, path: str, report: Report, moved: Moved, test: bool) -> None:
        self.path = path
        self.report = report
        self.moved = moved
        self.test = test
        self.is_normalized = False
        self.known: dict[str, Callable[[str, dict], list[dict]]] = {
            "LoadImageFromFile": self._load,
            "LoadAnnotations": self._load_annotations,
            "Resize": self._resize,
            "RandomFlip": self._flip,
            "RandomCrop": self._crop,
            "Normalize": self._normalize,
            "Pad": self._pad,
            "DefaultFormatBundle": self._nothing,
            "ImageToTensor": self._nothing,
            "Collect": self._pack,
            "MultiScaleFlipAug": self._views,
            "AutoAugment": self._choice,
        }

    def __call__(self, steps: Sequence[dict], path: str = "") -> list[dict]:
        path = path or self.path
        found = []
        for index, step in enumerate(steps):
            key = f"{path}[{index}] {step['type']}"
            found += self.known[step["type"]](key, step) if step["type"] in self.known else [step]
        return found

    def _say(self, key: str, step: dict) -> list[dict]:
        self.report.change(key, "{}", step)
        return [step]

    def _load(self, key: str, step: dict) -> list[dict]:
        if "file_client_args" not in step:
            return [step]
        step["backend_args"] = backend_args(step.pop("file_client_args"))
        return self._say(key, step)

    def _load_annotations(self, key: str, step: dict) -> list[dict]:
        known = {"type", "with_bbox", "with_label"}
        extra = {name: step.pop(name) for name in set(step) - known}
        for name, value in extra.items():
            if value and name not in ("poly2mask", "denorm_bbox"):
                self.report.remark(f"{key}.{name}", "only boxes and labels are loaded here")
        if extra:
            self.report.change(key, "{}", step, minor=True)
        return [step]

    def _resize(self, key: str, step: dict) -> list[dict]:
        scales, mode = step.pop("img_scale", None), step.pop("multiscale_mode", "range")
        ratios = step.pop("ratio_range", None)
        step.pop("override", None)
        rename(step, bbox_clip_border="clip_object_border")
        if scales is None:
            return [step]
        scales = [tuple(one) for one in (scales if isinstance(scales[0], list | tuple) else [scales])]
        rest = {name: value for name, value in step.items() if name != "type"}
        if ratios is not None:
            new = {"type": "RandomResize", "scale": scales[0], "ratio_range": tuple(ratios)}
        elif len(scales) == 1:
            new = {"type": "Resize", "scale": scales[0]}
        elif mode == "range":  # the long and the short side were drawn apart, whichever stood first
            new = {"type": "RandomResize", "scale": [(max(one), min(one)) for one in scales]}
        else:
            new = {"type": "RandomChoiceResize", "scales": scales}
        return self._say(key, {**new, **rest})

    def _flip(self, key: str, step: dict) -> list[dict]:
        if "flip_ratio" not in step:
            return [step]
        rename(step, flip_ratio="prob")
        return self._say(key, step)

    def _crop(self, key: str, step: dict) -> list[dict]:
        if step.get("crop_type", "absolute") in ("absolute", "relative") and "crop_size" in step:
            step["crop_size"] = tuple(step["crop_size"])[::-1]
            self.report.change(f"{key}.crop_size (height, width)", "crop_size={} (width, height)", step["crop_size"])
        return [step]

    def _normalize(self, key: str, step: dict) -> list[dict]:
        self.is_normalized = True
        norm = {"mean": list(step["mean"]), "std": list(step["std"]), "bgr_to_rgb": step.get("to_rgb", True)}
        self.moved.preprocessor.update(norm)
        self.report.change(key, "model.data_preprocessor = {}", {"type": "DetDataPreprocessor", **norm})
        return []

    def _pad(self, key: str, step: dict) -> list[dict]:
        value = step.get("pad_val", 0)
        value = value.get("img", 0) if isinstance(value, Mapping) else value
        if step.get("size_divisor"):
            padding = {"pad_size_divisor": step["size_divisor"], **({"pad_value": value} if value else {})}
            self.moved.preprocessor.update(padding)
            self.report.change(key, "model.data_preprocessor = {}", padding)
            return []
        if step.get("size") and self.is_normalized and not self.test:
            fixed = {"type": "BatchFixedSizePad", "size": tuple(step["size"]), "img_pad_value": value}
            self.moved.preprocessor["batch_augments"] = [fixed]
            self.report.change(key, "model.data_preprocessor = {}", {"batch_augments": [fixed]})
            return []
        if self.is_normalized:
            self.report.remark(key, "it now pads before the image is normalised: set pad_val to the mean of the images")
        if step.get("size"):
            step["size"] = tuple(step["size"])[::-1]
            self.report.change(f"{key}.size (height, width)", "size={} (width, height)", step["size"])
        return [step]

    def _nothing(self, key: str, step: dict) -> list[dict]:
        self.report.change(key, "is not needed: PackDetInputs does it")
        return []

    def _pack(self, key: str, step: dict) -> list[dict]:
        masks = [name for name in step.get("keys", ()) if name in ("gt_masks", "gt_semantic_seg", "proposals")]
        if masks:
            self.report.remark(f"{key}.keys", f"there are only boxes and labels here, no {', '.join(masks)}")
        new: dict[str, Any] = {"type": "PackDetInputs"}
        if self.test:
            new["meta_keys"] = TEST_META
        if "meta_keys" in step:
            named = [_META.get(name, name) for name in step["meta_keys"]]
            new["meta_keys"] = tuple(dict.fromkeys([*TEST_META, *(name for name in named if name)]))
        return self._say(key, new)

    def _views(self, key: str, step: dict) -> list[dict]:
        """One view of each image stays; where there were several, they become those of ``--tta``."""
        scales = step.get("img_scale")
        scales = [] if scales is None else scales if isinstance(scales[0], list | tuple) else [scales]
        directions = step.get("flip_direction", "horizontal")
        directions = [directions] if isinstance(directions, str) else list(directions)
        if len(scales) > 1 or step.get("flip"):
            self.moved.views = ([tuple(one) for one in scales], directions if step.get("flip") else [])
        steps = []
        for one in step["transforms"]:
            if one["type"] == "Resize":
                one.update({"img_scale": scales[0]} if scales else {"scale_factor": step["scale_factor"]})
            if one["type"] != "RandomFlip":
                steps.append(one)
        found = self(steps, f"{key}.transforms")
        self.report.change(key, "its transforms themselves: {}", [one["type"] for one in found])
        return found

    def _choice(self, key: str, step: dict) -> list[dict]:
        policies = [self(policy, f"{key}.policies[{index}]") for index, policy in enumerate(step["policies"])]
        self.report.change(key, "RandomChoice(transforms=[...]) of its policies")
        return [{"type": "RandomChoice", "transforms": policies}]


def backend_args(client: Mapping | None) -> dict | None:
    """Return what ``file_client_args`` is called today; the local disk needs none."""
    return None if not client or client.get("backend") == "disk" else dict(client)
