"""What is wrong with detections, written to a folder: tables, pictures, best and worst images."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from mmengine.structures import InstanceData

from densehead.analysis.detections.errors import BACKGROUND, BOTH, CLASSIFICATION, DUPLICATE, KINDS, LOCALISATION
from densehead.analysis.detections.plots import draw_confusion, draw_curves, draw_errors
from densehead.analysis.detections.report import DetectionReport, analyse
from densehead.analysis.detections.tables import write_tables
from densehead.apis.analysis.scenes import Scenes
from densehead.engine.hooks.visualization import read_rgb
from densehead.files import whole_files
from densehead.structures import DetDataSample
from densehead.visualization import SHEET_STYLE, DetLocalVisualizer, contact_sheet

#: What stands behind the class of a wrong detection on a picture.
SHORT = {CLASSIFICATION: "cls", LOCALISATION: "loc", BOTH: "both", DUPLICATE: "dup", BACKGROUND: "bg"}
WRONG = "\N{BALLOT X}"


def report_detections(
    scenes: Scenes,
    out_dir: str | os.PathLike,
    *,
    iou_thr: float = 0.5,
    score_thr: float | None = None,
    num_images: int = 8,
) -> DetectionReport:
    """Analyse detections and write all that is found to a folder, whole or not at all.

    Args:
        scenes: truth and detections.
        out_dir: the folder.
        iou_thr, score_thr: see :func:`~densehead.analysis.detections.report.analyse`.
        num_images: on the sheets of the best and of the worst images; there are none with 0.

    Raises:
        ValueError: thresholds that make no sense, no object to be found, an image that cannot be read.
    """
    if num_images < 0:
        raise ValueError(f"the number of images on a sheet must not be negative, but got {num_images}")
    report = analyse(
        scenes.detections,
        scenes.truth,
        classes=scenes.meta["classes"],
        num_images=len(scenes.images),
        iou_thr=iou_thr,
        score_thr=score_thr,
        supercategories=scenes.supercategories,
    )
    with whole_files(out_dir) as folder:
        write_tables(report, folder, scenes.images)
        draw_curves(report, folder / "curves.png")
        draw_confusion(report, folder / "confusion.png")
        draw_errors(report, folder / "errors.png")
        for name, images in (("worst", report.images.worst(num_images)), ("best", report.images.best(num_images))):
            if len(images):
                draw_images(scenes, report, images, folder / f"{name}.png")
    return report


def draw_images(scenes: Scenes, report: DetectionReport, images: Sequence[int], out_file: Path) -> Path:
    """Draw images on a sheet, truth beside detections; what is wrong is marked, with the kind of error.

    Args:
        scenes: truth and detections.
        report: what was found out about them.
        images: indices of the images.
        out_file: the sheet.
    """
    drawer = DetLocalVisualizer()
    drawer.dataset_meta = scenes.meta
    counts = report.images
    titles = [
        f"{Path(scenes.images[index]['img_path']).name}: F1 {counts.f1[index]:.2f}, {counts.right[index]} right, "
        f"{counts.wrong[index]} wrong, {counts.missed[index]} missed"
        for index in images
    ]
    pictures = [_picture(scenes, report, index, drawer) for index in images]
    return contact_sheet(pictures, out_file, titles=titles)


def _picture(scenes: Scenes, report: DetectionReport, image: int, drawer: DetLocalVisualizer) -> np.ndarray:
    truth, detections, matches = scenes.truth, scenes.detections, report.matches
    is_kept = report.is_kept
    is_found = np.append(is_kept, False)[matches.det_of_gt]
    objects = np.flatnonzero((truth.images == image) & ~truth.ignored)
    ignored = np.flatnonzero((truth.images == image) & truth.ignored)
    found = np.flatnonzero((detections.images == image) & is_kept)
    names = scenes.meta["classes"]
    sample = DetDataSample(
        gt_instances=_instances(
            truth, objects, [_marked(names[truth.labels[one]], "" if is_found[one] else WRONG) for one in objects]
        ),
        ignored_instances=_instances(truth, ignored, [names[label] for label in truth.labels[ignored]]),
    )
    kinds = [SHORT[KINDS[kind]] if kind >= 0 else "" for kind in report.errors.kind[found]]
    texts = [
        _marked(names[label], kind and WRONG + kind)
        for label, kind in zip(detections.labels[found], kinds, strict=True)
    ]
    sample.pred_instances = _instances(detections, found, texts)
    picture = read_rgb(scenes.images[image]["img_path"], scenes.backend_args)
    return drawer.draw(picture, sample, style=SHEET_STYLE, pred_score_thr=np.nextafter(report.score_thr, -1))


def _marked(name: str, mark: str) -> str:
    return f"{name} {mark}" if mark else name


def _instances(boxes, index: np.ndarray, texts: Sequence[str]) -> InstanceData:
    fields = {"bboxes": torch.from_numpy(boxes.boxes[index]), "labels": torch.from_numpy(boxes.labels[index])}
    if boxes.scores is not None:
        fields["scores"] = torch.from_numpy(boxes.scores[index])
    return InstanceData(**fields, label_names=list(texts))
