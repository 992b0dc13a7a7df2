"""Truth and detections of a whole data set, from a config and a checkpoint or a file of detections."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.runner import Runner

from densehead.apis.analysis.datasets import build_tested_dataset
from densehead.apis.config import prepare_test
from densehead.apis.inference import init_detector
from densehead.datasets import CocoDataset
from densehead.datasets.coco_file import read_coco
from densehead.engine.checks import check_classes
from densehead.evaluation.boxes import Boxes, joined_detections, joined_truth
from densehead.evaluation.samples import check_labels, class_names, detections_of
from densehead.safe_load import read_pickle


@dataclass(frozen=True)
class Scenes:
    """What is in the images of a data set, and what was detected there.

    Attributes:
        images: ``img_id`` and ``img_path`` of each.
        meta: metainfo of the data set, with ``classes``.
        truth: the objects, in pixels of the images.
        detections: likewise.
        supercategories: (C,) which classes are similar, from COCO's file; None where it tells nothing.
        backend_args: where images are read from, see :mod:`mmengine.fileio`.
    """

    images: list[dict[str, Any]]
    meta: Mapping[str, Any]
    truth: Boxes
    detections: Boxes
    supercategories: list[int] | None = None
    backend_args: dict | None = None


def detect_scenes(
    cfg: Config, checkpoint: str, split: str = "test", *, track: Callable[[Iterable], Iterable] = iter
) -> Scenes:
    """Detect the objects of a data set.

    Args:
        cfg: of a detector; is completed for a test, see :func:`densehead.apis.prepare_test`.
        checkpoint: file of the weights.
        split: ``'train'``, ``'val'`` or ``'test'``; see
            :func:`~densehead.apis.analysis.datasets.build_tested_dataset`.
        track: gets the batches and returns them, for a bar that shows how far it is.

    Raises:
        FileNotFoundError: there is no such checkpoint.
        ValueError: config, data and checkpoint do not fit each other.
    """
    prepare_test(cfg, checkpoint)
    dataset = build_tested_dataset(cfg, split)
    model = init_detector(cfg, checkpoint, device=get_device())
    check_classes(model, dataset, f"{split}_dataloader.dataset")
    loader = Runner.build_dataloader({**cfg.test_dataloader, "dataset": dataset})
    results = []
    for batch in track(loader):
        with torch.no_grad():
            found = model.test_step(batch)
        results += [{"img_id": one.img_id, "img_path": one.get("img_path"), **_on_host(one)} for one in found]
    return _scenes(dataset, results, "the detector")


def read_scenes(cfg: Config, file: str | os.PathLike, split: str = "test") -> Scenes:
    """Read the detections that ``tools/test.py --out`` has written (as mmdetection's does).

    Args:
        cfg: whose data set they are of.
        file: the pickle file. Nothing that it says is run, see :func:`densehead.safe_load.read_pickle`.
        split: as of :func:`detect_scenes`.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no such file, or one of another data set.
    """
    path = Path(file)
    if not path.is_file():
        raise FileNotFoundError(f"--detections: there is no file {path}")
    content = read_pickle(path.read_bytes(), key="--detections", name=str(path))
    if not isinstance(content, list) or not all(
        isinstance(one, Mapping) and {"img_id", "pred_instances"} <= set(one) for one in content
    ):
        raise ValueError(
            f"{path} must hold a list of dicts with 'img_id' and 'pred_instances', as tools/test.py --out writes it"
        )
    results = [{"img_id": one["img_id"], "img_path": one.get("img_path"), **detections_of(one)} for one in content]
    return _scenes(build_tested_dataset(cfg, split), results, str(path))


def _on_host(sample: Any) -> dict[str, np.ndarray]:
    return detections_of({"pred_instances": sample.pred_instances})


def _scenes(dataset: Any, results: Sequence[Mapping], source: str) -> Scenes:
    """Bring the truth of a data set and the results of its images together."""
    infos = [dataset.get_data_info(index) for index in range(len(dataset))]
    classes = class_names(dataset.metainfo, "the analysis of detections")
    detections = _finite(joined_detections(_in_order(results, infos, source), np.float64))
    check_labels(detections.labels, len(classes), source)
    return Scenes(
        images=[{"img_id": info["img_id"], "img_path": info["img_path"]} for info in infos],
        meta=dataset.metainfo,
        truth=joined_truth([info["instances"] for info in infos], np.float64),
        detections=detections,
        supercategories=_supercategories(dataset),
        backend_args=getattr(dataset, "backend_args", None),
    )


def _in_order(results: Sequence[Mapping], infos: Sequence[Mapping], source: str) -> list[Mapping]:
    """Return the result of each image of the data set; images are known by their ids, or by their files."""
    key = "img_id" if len({info["img_id"] for info in infos}) == len(infos) else "img_path"
    by_key = {one[key]: one for one in results}
    known = {info[key] for info in infos}
    unknown = [one for one in by_key if one not in known]
    if unknown:
        raise ValueError(
            f"{source}: {len(unknown)} of {len(by_key)} images are not in the data set, the first has "
            f"{key}={unknown[0]!r}; the data set has {len(infos)}, the first {key}={infos[0][key]!r}: give the config "
            "and --split of the data set they were detected in"
        )
    absent = sum(info[key] not in by_key for info in infos)
    if absent:
        print_log(
            f"{source}: {absent} of {len(infos)} images of the data set have no detections there: they count as images "
            "in which nothing was detected",
            logger="current",
            level=logging.WARNING,
        )
    nothing = {"bboxes": np.zeros((0, 4)), "scores": np.zeros(0), "labels": np.zeros(0, dtype=np.int64)}
    return [by_key.get(info[key], nothing) for info in infos]


def _finite(detections: Boxes) -> Boxes:
    is_finite = np.isfinite(detections.boxes).all(1) & np.isfinite(detections.scores)
    if not is_finite.all():
        print_log(
            f"{(~is_finite).sum()} detections with a NaN or infinite box or score are left out: has training diverged?",
            logger="current",
            level=logging.WARNING,
        )
    return detections.take(is_finite)


def _supercategories(dataset: Any) -> list[int] | None:
    """Return a number for the supercategory of each class, where the data set's COCO file names them."""
    if type(dataset) is not CocoDataset:
        return None
    content = read_coco(dataset.ann_file, dataset.backend_args, need_annotations=False)
    names = {one["name"]: one.get("supercategory") for one in content["categories"]}
    named = [names.get(name) for name in dataset.metainfo["classes"]]
    groups = {name: number for number, name in enumerate(dict.fromkeys(named))}
    if None in groups or not 1 < len(groups) < len(named):
        return None
    return [groups[name] for name in named]
