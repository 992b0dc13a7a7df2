"""Data sets, their loaders and their evaluation in mmdetection 2.x."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from typing import Any

from densehead.apis.upgrade.pipeline import Moved, backend_args, is_old, upgrade_pipeline
from densehead.apis.upgrade.report import Report, merge, rename
from densehead.registry import DATASETS

SPLITS = ("train", "val", "test")
_LOADER_KEYS = {"samples_per_gpu": "batch_size", "workers_per_gpu": "num_workers"}
# of `evaluation`, for the hooks and the loop
_SCHEDULE_KEYS = ("interval", "start", "by_epoch", "dynamic_intervals")
_BEST_KEYS = ("save_best", "rule", "greater_keys", "less_keys")


class DataUpgrade:
    """Turns ``data`` and ``evaluation`` of a config into loaders and evaluators, in place.

    Args:
        cfg: the whole config, plain containers.
        report: told of every change.

    Attributes:
        moved: what the pipelines leave to others, by split.
    """

    def __init__(self, cfg: dict, report: Report) -> None:
        self.cfg = cfg
        self.report = report
        self.root = cfg.get("data_root") if isinstance(cfg.get("data_root"), str) else None
        self.moved: dict[str, Moved] = {}

    def __call__(self) -> None:
        """Upgrade the config."""
        data = self.cfg.get("data")
        if isinstance(data, Mapping) and ({*SPLITS, *_LOADER_KEYS} & set(data)):
            self._loaders(self.cfg.pop("data"))
        for split in SPLITS:
            self._pipelines(self.cfg.get(f"{split}_dataloader"), f"{split}_dataloader", split)

    # ---- loaders -----------------------------------------------------------------------------------------------

    def _loaders(self, data: dict) -> None:
        common = {new: data.pop(old) for old, new in _LOADER_KEYS.items() if old in data}
        if "persistent_workers" in data:
            common["persistent_workers"] = data.pop("persistent_workers")
        for split in SPLITS:
            own = data.pop(f"{split}_dataloader", {})
            dataset = data.pop(split, None)
            if dataset is not None or (self.cfg.get(f"{split}_dataloader") and (common or own)):
                self._loader(split, dataset, dict(common), own)
        for key in data:
            self.report.remark(f"data.{key}", "has no counterpart; it is left out")

    def _loader(self, split: str, dataset: Any, loader: dict, own: dict) -> None:
        key = f"{split}_dataloader"
        base = self.cfg.get(key)
        if split != "train":
            loader.pop("batch_size", None)  # the training's
            for one in dataset if isinstance(dataset, list | tuple) else [dataset]:
                if "samples_per_gpu" in (one or {}):
                    loader["batch_size"] = one.pop("samples_per_gpu")
        rename(own, **_LOADER_KEYS)
        for name in ("class_aware_sampler", "shuffle"):
            if own.pop(name, None) is not None:
                self.report.remark(f"data.{key}.{name}", f"set {key}.sampler by hand")
        loader.update(own)
        if base is None:
            loader = {"batch_size": 1, "num_workers": 2, **loader}
            loader.setdefault("persistent_workers", bool(loader["num_workers"]))
            loader["sampler"] = {"type": "DefaultSampler", "shuffle": split == "train"}
            if split == "train":
                loader["batch_sampler"] = {"type": "AspectRatioBatchSampler"}
        if loader:
            said = {name: loader[name] for name in ("batch_size", "num_workers") if name in loader}
            self.report.change("data.samples_per_gpu, data.workers_per_gpu", f"{key} = {{}}", said)
        if dataset is not None:
            loader["dataset"] = self._dataset(dataset, f"data.{split}", split)
            self.report.change(f"data.{split}", f"{key}.dataset, with the changes of this list")
        # a config of 2.x upon bases of today has both; it says what differs
        self.cfg[key] = loader if base is None else merge(base, loader)

    # ---- data sets ---------------------------------------------------------------------------------------------

    def _dataset(self, dataset: Any, path: str, split: str) -> dict:
        if isinstance(dataset, list | tuple):
            return self._joined([self._dataset(one, f"{path}[{index}]", split) for index, one in enumerate(dataset)])
        dataset = copy.deepcopy(dataset)
        if {"dataset", "datasets"} & set(dataset):
            return self._wrapper(dataset, path, split)
        parts = self._parts(dataset)
        if len(parts) > 1:
            self.report.change(f"{path}.ann_file (a list)", "ConcatDataset(datasets=[...]) of one data set each")
            return self._joined([self._dataset(one, path, split) for one in parts])
        return self._single(dataset, path, split)

    def _wrapper(self, dataset: dict, path: str, split: str) -> dict:
        if dataset.get("type") == "MultiImageMixDataset":
            self.report.remark(path, "MultiImageMixDataset is not here; its data set is taken without the mixing")
            return self._dataset(dataset["dataset"], f"{path}.dataset", split)
        if "datasets" in dataset:
            return self._joined(self._dataset(dataset["datasets"], f"{path}.datasets", split)["datasets"])
        dataset["dataset"] = self._dataset(dataset["dataset"], f"{path}.dataset", split)
        return dataset

    def _joined(self, datasets: list[dict]) -> dict:
        joined: dict[str, Any] = {"type": "ConcatDataset", "datasets": datasets}
        if any(one.get("type") == "VOCDataset" for one in datasets):
            joined["ignore_keys"] = ["dataset_type"]
        return joined

    def _parts(self, dataset: dict) -> list[dict]:
        """Return the data sets that one with lists of files stands for."""
        files = dataset.get("ann_file")
        if not isinstance(files, list | tuple):
            return [dataset]
        prefixes = dataset.get("img_prefix")
        if not isinstance(prefixes, list | tuple):
            prefixes = [prefixes] * len(files)
        rest = {name: value for name, value in dataset.items() if name not in ("ann_file", "img_prefix")}
        parts = [{**rest, "ann_file": file} for file in files]
        for part, prefix in zip(parts, prefixes, strict=True):
            if prefix is not None:
                part["img_prefix"] = prefix
        return parts

    def _single(self, dataset: dict, path: str, split: str) -> dict:
        kind = dataset.get("type")
        if kind is not None and kind not in DATASETS:
            self.report.remark(f"{path}.type", f"there is no data set {kind}; it is kept as it is")
        is_xml = kind in ("VOCDataset", "XMLDataset")
        new = {"type": kind} if kind else {}
        self._files(dataset, new, path, split, "sub_data_root" if is_xml else "img")
        classes = self._classes(dataset.pop("classes", None), path)
        if classes is not None:
            new["metainfo"] = {"classes": classes}
            self.report.change(f"{path}.classes", f"{split}_dataloader.dataset.metainfo = {{}}", new["metainfo"])
        if split != "train":
            new["test_mode"] = True
        elif kind or "filter_empty_gt" in dataset:
            self._filter(dataset, new, path, is_xml)
        dataset.pop("test_mode", None)
        if "file_client_args" in dataset:
            new["backend_args"] = backend_args(dataset.pop("file_client_args"))
        if "pipeline" in dataset:
            steps = dataset.pop("pipeline")
            new["pipeline"] = self._pipeline(steps, f"{path}.pipeline", split)
        for name in ("proposal_file", "seg_prefix"):
            if dataset.pop(name, None):
                self.report.remark(f"{path}.{name}", "has no counterpart; it is left out")
        return {**new, **dataset}

    def _files(self, dataset: dict, new: dict, path: str, split: str, prefix_key: str) -> None:
        """Say where annotations and images are, relative to the data root where that is possible."""
        ann_file, prefix = dataset.pop("ann_file", None), dataset.pop("img_prefix", None)
        given = [one for one in (ann_file, prefix) if one]
        if dataset.get("data_root"):
            new["data_root"] = dataset.pop("data_root")
        elif self.root and given and all(one.startswith(self.root.rstrip("/") + "/") for one in given):
            new["data_root"] = self.root
            ann_file, prefix = (one and one.removeprefix(self.root).lstrip("/") for one in (ann_file, prefix))
        if ann_file is not None:
            new["ann_file"] = ann_file
        if prefix is not None:
            new["data_prefix"] = {prefix_key: prefix}
            self.report.change(
                f"{path}.img_prefix", f"{split}_dataloader.dataset.data_prefix = {{}}", new["data_prefix"]
            )

    def _filter(self, dataset: dict, new: dict, path: str, is_xml: bool) -> None:
        new["filter_cfg"] = {"filter_empty_gt": dataset.pop("filter_empty_gt", True), "min_size": 32}
        if is_xml and dataset.get("min_size") is not None:
            new["filter_cfg"]["bbox_min_size"] = dataset.pop("min_size")
        self.report.change(f"{path}.filter_empty_gt", "train_dataloader.dataset.filter_cfg = {}", new["filter_cfg"])

    def _classes(self, classes: Any, path: str) -> tuple | None:
        if not isinstance(classes, str):
            return None if classes is None else tuple(classes)
        if os.path.isfile(classes):
            with open(classes, encoding="utf-8") as file:
                return tuple(line.rstrip("\r\n") for line in file)
        self.report.remark(
            f"{path}.classes", f"there is no file {classes} to read the names from: set dataset.metainfo by hand"
        )
        return None

    # ---- pipelines ---------------------------------------------------------------------------------------------

    def _pipeline(self, steps: list, path: str, split: str) -> list:
        if not is_old(steps):
            return steps
        steps, self.moved[split] = upgrade_pipeline(steps, path, self.report, test=split != "train")
        return steps

    def _pipelines(self, node: Any, path: str, split: str) -> None:
        """Upgrade pipelines in a loader that is otherwise of today."""
        if isinstance(node, list):
            for index, one in enumerate(node):
                self._pipelines(one, f"{path}[{index}]", split)
        elif isinstance(node, dict):
            for key, value in node.items():
                if key == "pipeline" and is_old(value):
                    node[key] = self._pipeline(value, f"{path}.pipeline", split)
                else:
                    self._pipelines(value, f"{path}.{key}", split)


def upgrade_evaluation(cfg: dict, report: Report, had_data: bool) -> dict:
    """Write the evaluators, in place; return what the loop and the checkpoint hook make of ``evaluation``.

    Args:
        cfg: the whole config, whose loaders are of today.
        report: told of every change.
        had_data: whether the config said ``data``, so that there are no evaluators yet.
    """
    old = cfg.pop("evaluation", None)
    if old is None and not had_data:
        return {}
    had_old = old is not None
    old = dict(old or {})
    rest = {name: old.pop(name) for name in (*_SCHEDULE_KEYS, *_BEST_KEYS) if name in old}
    for split in ("val", "test"):
        if cfg.get(f"{split}_dataloader") and (had_old or not cfg.get(f"{split}_evaluator")):
            evaluator = _evaluator(cfg[f"{split}_dataloader"]["dataset"], dict(old), report)
            key = f"{split}_evaluator"
            report.change("evaluation", f"{key} = {{}}", evaluator)
            known = isinstance(cfg.get(key), dict) and cfg[key].get("type") == evaluator["type"]
            cfg[key] = merge(cfg[key], evaluator) if known else evaluator
    return rest


def best_metric(cfg: Mapping, name: str) -> str:
    """Return today's name of a metric that ``save_best`` named."""
    if name == "auto" or "/" in name:
        return name
    evaluator = cfg.get("val_evaluator") or {}
    return f"{'pascal_voc' if evaluator.get('type') == 'VOCMetric' else 'coco'}/{name}"


def _evaluator(dataset: dict, old: dict, report: Report) -> dict:
    while "dataset" in dataset:
        dataset = dataset["dataset"]
    parts = dataset.get("datasets", [dataset])
    metric = old.pop("metric", None)
    metrics = [metric] if isinstance(metric, str) else list(metric or [])
    for name in metrics:
        if name not in ("bbox", "mAP"):
            report.remark("evaluation.metric", f"there is only the detection of boxes here, no {name!r}")
    for name in ("jsonfile_prefix", "logger", "gpu_collect", "tmpdir", "broadcast_bn_buffer", "out_dir", "test_fn"):
        old.pop(name, None)
    if parts[0].get("type") in ("VOCDataset", "XMLDataset") or metrics[:1] == ["mAP"]:
        rename(old, iou_thr="iou_thrs")
        is_2007 = any("VOC2007" in str(part.get(key)) for part in parts for key in ("ann_file", "data_prefix"))
        return {"type": "VOCMetric", "metric": "mAP", "eval_mode": "11points" if is_2007 else "area", **old}
    new = {"type": "CocoMetric", "metric": "bbox", **old}
    if len(parts) == 1 and parts[0].get("ann_file"):
        new["ann_file"] = os.path.join(parts[0].get("data_root") or "", parts[0]["ann_file"])
    return new
