"""Heat maps of the levels of a detector, from images to sheets."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import torch
from torch import nn

from densehead.analysis.heatmaps import draw_heatmaps, read_levels
from densehead.analysis.heatmaps.plots import CELL_STYLE
from densehead.apis.analysis.inputs import preprocess
from densehead.apis.inference import pack_image
from densehead.arguments import near
from densehead.files import whole_files
from densehead.models.heads import DenseHead
from densehead.visualization import DetLocalVisualizer
from densehead.visualization.inputs import as_picture


def class_label(model: nn.Module, name: str | None) -> int | None:
    """Return the label of a class of a detector, None for none.

    Raises:
        ValueError: it has no such class.
    """
    classes = list(model.dataset_meta.get("classes") or ())
    if name is None or name in classes:
        return None if name is None else classes.index(name)
    raise ValueError(
        f"--class {name}: the detector has no such class.{near(name, classes)} It has {', '.join(classes)}"
    )


def report_heatmaps(
    model: nn.Module,
    images: Sequence[str | os.PathLike],
    out_dir: str | os.PathLike,
    *,
    feature: str = "mean",
    label: int | None = None,
    score_thr: float = 0.3,
    track: Callable[[Iterable], Iterable] = iter,
) -> list[Path]:
    """Draw a sheet of heat maps of each image into a folder; return their paths.

    Args:
        model: of :func:`densehead.apis.init_detector`.
        images: files.
        out_dir: the folder, written to whole or not at all.
        feature, label: see :func:`densehead.analysis.heatmaps.read_levels`.
        score_thr: lowest score of a detection that is drawn.
        track: gets the images and returns them, for a bar that shows how far it is.

    Raises:
        ValueError: a detector whose head is none of densehead's kind, or an image that cannot be read.
        FileNotFoundError: there is no such image.
    """
    head = getattr(model, "bbox_head", None)
    if not isinstance(head, DenseHead):
        raise ValueError(
            f"heat maps need a detector with a dense head (model.bbox_head), but {type(model).__name__} has "
            f"{'none' if head is None else type(head).__name__}"
        )
    names = [f"{Path(image).stem}.png" for image in images]
    twice = Counter(names)
    names = [f"{number}_{name}" if twice[name] > 1 else name for number, name in enumerate(names, 1)]
    with whole_files(out_dir) as folder:
        for image, name in zip(track(images), names, strict=True):
            _draw(model, image, folder / name, feature=feature, label=label, score_thr=score_thr)
    return [Path(out_dir, name) for name in names]


@torch.no_grad()
def _draw(
    model: nn.Module, image: str | os.PathLike, out_file: Path, *, feature: str, label: int | None, score_thr: float
) -> None:
    head = model.bbox_head
    inputs, sample = preprocess(pack_image(model, image), model.data_preprocessor, training=False)
    features = model.extract_feat(inputs[None])
    levels = read_levels(head, features, head(features), feature=feature, label=label)
    (sample.pred_instances,) = head.predict(features, [sample], rescale=False)
    if label is not None:
        sample.pred_instances = sample.pred_instances[sample.pred_instances.labels == label]
    height, width = sample.img_shape[:2]
    picture = as_picture(inputs[:, :height, :width], model.data_preprocessor)
    drawer = DetLocalVisualizer()
    drawer.dataset_meta = model.dataset_meta
    detected = drawer.draw(picture, sample, draw_gt=False, pred_score_thr=score_thr, style=CELL_STYLE)
    count = int((sample.pred_instances.scores > score_thr).sum())
    classes = model.dataset_meta.get("classes") or [f"class {number}" for number in range(head.num_classes)]
    title = f"{Path(image).name}: {count} detection{'' if count == 1 else 's'} > {score_thr:g}"
    draw_heatmaps(picture, detected, levels, classes, out_file, title=title)
