"""``DetDataSample``: an image's truth and detections, as they travel between data, model, metric and pictures."""

from __future__ import annotations

from mmengine.structures import BaseDataElement, InstanceData


def _instances(name: str, meaning: str) -> property:
    def getter(self) -> InstanceData:
        return getattr(self, f"_{name}")

    def setter(self, value: InstanceData) -> None:
        self.set_field(value, f"_{name}", dtype=InstanceData)

    def deleter(self) -> None:
        delattr(self, f"_{name}")

    return property(getter, setter, deleter, meaning)


class DetDataSample(BaseDataElement):
    """One image's annotations and predictions; its meta keys hold ``img_path``, ``ori_shape``, ``img_shape``, ...

    Fields are :class:`~mmengine.structures.InstanceData` with ``bboxes`` (n, 4) xyxy in pixels, ``labels`` (n,) and,
    for detections, ``scores`` (n,).
    """

    gt_instances = _instances("gt_instances", "The truth.")
    ignored_instances = _instances("ignored_instances", "Regions in which nothing is a negative (crowds).")
    pred_instances = _instances("pred_instances", "The detections.")
    proposals = _instances("proposals", "Proposals of a first stage; mmdetection has them, nothing here makes them.")
