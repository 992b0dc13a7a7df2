"""A data set as the network gets to see it, after augmentation, beside the images as they are."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.structures import InstanceData

from densehead.apis.analysis.datasets import build_dataset
from densehead.apis.analysis.inputs import build_preprocessor, normalisation_of, preprocess, transforms_of
from densehead.engine.hooks.seeds import SeededFetch, SeededIndex, mix
from densehead.engine.hooks.visualization import read_rgb
from densehead.files import whole_files
from densehead.structures import DetDataSample
from densehead.visualization import DetLocalVisualizer, Style, contact_sheet
from densehead.visualization.inputs import as_picture

SHEET_PICTURES = 24  # on one sheet
COLUMNS = 4
CELL_STYLE = Style(min_side=360, max_side=420)
PARTS = (("gt_instances", False), ("ignored_instances", True))  # of a sample, and whether its objects are ignored


@dataclass(frozen=True)
class View:
    """An image of a data set, as the network sees it or as it is.

    Attributes:
        index: of the sample in the data set.
        name: of the file, and which of the two it is.
        picture: (H, W, 3) RGB of bytes, without what batches are padded with.
        sample: with the truth, in pixels of the picture.
    """

    index: int
    name: str
    picture: np.ndarray
    sample: DetDataSample

    @property
    def title(self) -> str:
        """What it is, in a line."""
        return f"{self.name}: {_size(self.picture)}, {_count(self.sample)}"


class Browser:
    """Shows the samples of a data set of a config.

    Args:
        cfg: stays as it is.
        split: ``'train'``, ``'val'`` or ``'test'``.
        seed: of the augmentation; samples look as in the first epoch of a training with ``randomness.seed`` of that
            value, whatever others are looked at.
        padding: whether pictures show what a batch of this image alone is padded with.

    Raises:
        ValueError: the config lacks what is needed.
    """

    def __init__(self, cfg: Config, split: str = "train", *, seed: int = 0, padding: bool = False) -> None:
        self.dataset = build_dataset(cfg, split)
        self.preprocessor = build_preprocessor(cfg)
        self.split, self.seed, self.padding = split, seed, padding
        self._normalisation = normalisation_of(transforms_of(self.dataset))

    def choose(self, count: int) -> list[int]:
        """Return the indices of ``count`` samples (all if there are fewer), drawn by the seed, ascending.

        Raises:
            ValueError: ``count`` is below 1.
        """
        if count < 1:
            raise ValueError(f"the number of images must be at least 1, but got {count}")
        rng = np.random.default_rng(self.seed)
        return sorted(rng.choice(len(self.dataset), min(count, len(self.dataset)), replace=False).tolist())

    def view(self, index: int) -> View:
        """Return a sample as the network sees it.

        Raises:
            ValueError: the pipeline does not end in ``PackDetInputs``.
        """
        (packed,) = SeededFetch(self.dataset)([SeededIndex(index, mix(self.seed, 0, index))])
        if not isinstance(packed, Mapping) or not {"inputs", "data_samples"} <= set(packed):
            found = f"a dict of {sorted(packed)}" if isinstance(packed, Mapping) else f"a {type(packed).__name__}"
            raise ValueError(
                f"{self.split}_dataloader.dataset must give 'inputs' and 'data_samples', but sample {index} is "
                f"{found}: let its pipeline end in dict(type='PackDetInputs')"
            )
        shape = packed["inputs"].shape[-2:]
        inputs, sample = preprocess(packed, self.preprocessor, training=True)
        height, width = inputs.shape[-2:] if self.padding else sample.get("img_shape", shape)[:2]
        picture = as_picture(inputs[:, :height, :width], self.preprocessor, self._normalisation)
        name = Path(sample.get("img_path", f"sample {index}")).name
        return View(index, f"{name} (input)", picture, sample)

    def original(self, view: View) -> View:
        """Return the image of a view as it is, with its annotations.

        Raises:
            ValueError: the data set does not tell which image it is.
        """
        info = self._info_of(view)
        picture = read_rgb(info["img_path"], getattr(self.dataset, "backend_args", None))
        parts = {name: [one for one in info["instances"] if bool(one["ignore_flag"]) == flag] for name, flag in PARTS}
        sample = DetDataSample(**{name: _instances(objects) for name, objects in parts.items()})
        return View(view.index, f"{Path(info['img_path']).name} (original)", picture, sample)

    def _info_of(self, view: View) -> Mapping:
        path = view.sample.get("img_path")
        for dataset in _chain(self.dataset):
            if not hasattr(dataset, "get_data_info"):
                continue
            if view.index < len(dataset):
                info = dataset.get_data_info(view.index)
                if path in (None, info["img_path"]):
                    return info
        if path in self._by_path:  # a sample that was drawn in place of one without an object, say
            return self._by_path[path]
        raise ValueError(
            f"{self.split}_dataloader.dataset does not tell which image sample {view.index} is made of: it needs "
            "get_data_info, and PackDetInputs 'img_path' among its meta_keys"
        )

    @cached_property
    def _by_path(self) -> dict[str, Mapping]:
        *_, last = (one for one in _chain(self.dataset) if hasattr(one, "get_data_info"))
        infos = (last.get_data_info(index) for index in range(len(last)))
        return {info["img_path"]: info for info in infos}


def browse(
    browser: Browser,
    out_dir: str | os.PathLike,
    *,
    count: int = 16,
    original: bool = False,
    single: bool = False,
    track: Callable[[Iterable], Iterable] = iter,
) -> list[View]:
    """Draw samples on sheets, ``sheet_1.png`` and so on; return them.

    Args:
        browser: of a data set.
        out_dir: folder that is written to, whole or not at all.
        count: number of samples.
        original: put the image as it is to the left of each.
        single: also write each picture to a file of its own.
        track: gets the indices and returns them, for a bar that shows how far it is.
    """
    drawer = DetLocalVisualizer()
    drawer.dataset_meta = browser.dataset.metainfo
    views, cells = [], []
    with whole_files(out_dir) as folder:
        for index in track(browser.choose(count)):
            view = browser.view(index)
            views.append(view)
            shown = [browser.original(view), view] if original else [view]
            cells += [(_draw(drawer, one, CELL_STYLE), one.title) for one in shown]
            if single:
                file = folder / f"{index:06d}_{Path(view.name.rpartition(' ')[0]).stem}.png"
                contact_sheet([_draw(drawer, one, Style()) for one in shown], file, titles=[one.title for one in shown])
        for number, part in enumerate(_parts(cells), 1):
            pictures, titles = zip(*part, strict=True)
            contact_sheet(
                pictures, folder / f"sheet_{number}.png", COLUMNS, titles=titles, cell_width=CELL_STYLE.max_side
            )
    return views


def _parts(cells: Sequence) -> Iterator[Sequence]:
    for start in range(0, len(cells), SHEET_PICTURES):
        yield cells[start : start + SHEET_PICTURES]


def _draw(drawer: DetLocalVisualizer, view: View, style: Style) -> np.ndarray:
    has_truth = "bboxes" in view.sample.get("gt_instances", ())
    return drawer.draw(view.picture, view.sample, draw_gt=has_truth, draw_pred=False, style=style)


def _chain(dataset: Any) -> Iterator[Any]:
    """Yield a data set and those that it wraps, the outer first."""
    while dataset is not None:
        yield dataset
        dataset = getattr(dataset, "dataset", None)


def _instances(objects: Sequence[Mapping]) -> InstanceData:
    boxes = torch.tensor([one["bbox"] for one in objects], dtype=torch.float64).reshape(-1, 4)
    return InstanceData(bboxes=boxes, labels=torch.tensor([one["bbox_label"] for one in objects], dtype=torch.long))


def _size(picture: np.ndarray) -> str:
    return f"{picture.shape[1]} x {picture.shape[0]}"


def _count(sample: DetDataSample) -> str:
    count = len(sample.gt_instances) if "gt_instances" in sample else 0
    return f"{count} object{'' if count == 1 else 's'}"
