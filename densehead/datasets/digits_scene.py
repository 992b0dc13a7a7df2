"""Scenes of handwritten digits on photographs, and the COCO data set that is written of them."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import cv2
import numpy as np
from mmengine.utils import ProgressBar

VERSION = 2  # of what is drawn: a change of the pictures needs another number
SPLITS = ("train", "val")
INK = 0.4  # opacity from which a pixel belongs to a digit's box
GRAY = np.array([0.114, 0.587, 0.299])  # luminance of BGR


@dataclass(frozen=True)
class DigitsSpec:
    """Everything that a set of scenes depends on.

    Attributes:
        split: ``'train'`` or ``'val'``; they have no handwritten sample in common.
        num_images: number of scenes.
        image_size: side of a scene, pixels.
        seed: scenes of another seed are others.
        min_size, max_size: longer side of a digit, pixels.
        max_digits: most digits in a scene; there is one at least.
        max_iou: largest IoU of two boxes.
        version: of the drawing.
    """

    split: str = "train"
    num_images: int = 3000
    image_size: int = 128
    seed: int = 0
    min_size: float = 14
    max_size: float = 90
    max_digits: int = 6
    max_iou: float = 0.15
    version: int = VERSION

    def __post_init__(self) -> None:
        if self.split not in SPLITS:
            raise ValueError(f"DigitsDataset: split must be 'train' or 'val', but got {self.split!r}")
        for key in ("num_images", "image_size", "max_digits"):
            value = getattr(self, key)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ValueError(f"DigitsDataset: {key} must be a positive integer, but got {value!r}")
        if not isinstance(self.seed, int) or self.seed < 0:
            raise ValueError(f"DigitsDataset: seed must be an integer, 0 or above, but got {self.seed!r}")
        if not 8 <= self.min_size <= self.max_size <= self.image_size:
            raise ValueError(
                "DigitsDataset: digits must be 8 pixels or more, and fit the image: 8 <= min_size <= max_size <= "
                f"image_size, but got {self.min_size}, {self.max_size}, {self.image_size}"
            )
        if not 0 <= self.max_iou <= 1:
            raise ValueError(f"DigitsDataset: max_iou must be in 0..1, but got {self.max_iou!r}")

    @property
    def folder(self) -> str:
        """Name of the folder; what differs from the usual is part of it."""
        usual = DigitsSpec(split=self.split)
        keys = ("min_size", "max_size", "max_digits", "max_iou")
        other = [f"-{key}{getattr(self, key):g}" for key in keys if getattr(self, key) != getattr(usual, key)]
        return f"{self.split}-{self.num_images}x{self.image_size}-seed{self.seed}{''.join(other)}"


class Scenery:
    """Draws the scenes of a :class:`DigitsSpec`; scene ``i`` does not depend on the number of scenes."""

    TRIES = 30  # to place a digit
    DIM = 0.55  # brightness of the photographs, on which all digits are light
    CONTRAST = 110  # least difference of luminance between a digit and what is behind it (of 255)

    def __init__(self, spec: DigitsSpec) -> None:
        from sklearn.datasets import load_digits, load_sample_images

        self.spec = spec
        digits = load_digits()
        order = np.arange(len(digits.target))
        rank = np.zeros_like(order)  # how many samples of the same digit came before
        for digit in range(10):
            rank[digits.target == digit] = np.arange((digits.target == digit).sum())
        is_val = rank % 5 == 0
        self.samples = order[is_val == (spec.split == "val")]
        self.glyphs = np.pad(digits.images.astype(np.float32) / 16, ((0, 0), (1, 1), (1, 1)))
        self.labels = digits.target
        self.photos = [np.ascontiguousarray(photo[..., ::-1]) for photo in load_sample_images().images]

    def draw(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return scene ``index``: a BGR uint8 image, boxes (n, 4) xyxy in pixels, and labels (n,)."""
        spec = self.spec
        rng = np.random.default_rng([spec.version, spec.seed, SPLITS.index(spec.split), index])
        image = self._background(rng)
        count = rng.integers(1, spec.max_digits + 1)
        sizes = np.sort(rng.uniform(spec.min_size**0.5, spec.max_size**0.5, count) ** 2)[::-1]  # small ones are more
        boxes: list[tuple[int, int, int, int]] = []
        labels: list[int] = []
        for size in sizes:
            sample = rng.choice(self.samples)
            ink = self._ink(rng, self.glyphs[sample], size)
            height, width = ink.shape
            place = self._place(rng, height, width, boxes)
            if place is not None:
                left, top = place
                self._paint(rng, image[top : top + height, left : left + width], ink)
                boxes.append((left, top, left + width, top + height))
                labels.append(int(self.labels[sample]))
        return image.round().astype(np.uint8), np.array(boxes), np.array(labels)

    def _background(self, rng: np.random.Generator) -> np.ndarray:
        """(S, S, 3) float32: a crop of a photograph, 1 to 2.5 times the size of the scene where it is large enough."""
        photo = self.photos[rng.integers(len(self.photos))]
        size = self.spec.image_size
        side = min(int(size * rng.uniform(1, 2.5)), *photo.shape[:2])
        top, left = (rng.integers(0, free - side + 1) for free in photo.shape[:2])
        crop = photo[top : top + side, left : left + side]
        if rng.random() < 0.5:
            crop = crop[:, ::-1]
        return cv2.resize(crop, (size, size), interpolation=cv2.INTER_AREA).astype(np.float32) * self.DIM

    @staticmethod
    def _ink(rng: np.random.Generator, glyph: np.ndarray, size: float) -> np.ndarray:
        """Opacity (h, w) of a digit whose ink just fills it: its longer side is about ``size``."""
        angle = np.deg2rad(rng.uniform(-5, 5))
        stretch = np.exp(rng.uniform(-0.06, 0.06))
        rows, columns = np.nonzero(glyph > 0.25)
        scale = size / max(np.ptp(rows) + 1, (np.ptp(columns) + 1) * stretch)
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        matrix = scale * turn @ np.diag([stretch, 1.0])
        side = int(np.ceil(scale * glyph.shape[0] * 1.25))
        shift = side / 2 - matrix @ [(glyph.shape[1] - 1) / 2, (glyph.shape[0] - 1) / 2]
        smooth = cv2.warpAffine(glyph, np.column_stack([matrix, shift]), (side, side), flags=cv2.INTER_CUBIC)
        ink = np.clip((smooth - 0.15) / 0.5, 0, 1)  # faint strokes stay to be seen, and loops open
        rows, columns = (np.flatnonzero((ink >= INK).any(axis)) for axis in (1, 0))
        return ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]

    def _place(
        self, rng: np.random.Generator, height: int, width: int, boxes: list[tuple[int, int, int, int]]
    ) -> tuple[int, int] | None:
        """Left and top of a place that overlaps the boxes that are there little enough; None where none was found."""
        size = self.spec.image_size
        if height > size or width > size:
            return None
        there = np.array(boxes, dtype=np.float64).reshape(-1, 4)
        areas = (there[:, 2:] - there[:, :2]).prod(1)
        for _ in range(self.TRIES):
            left, top = int(rng.integers(size - width + 1)), int(rng.integers(size - height + 1))
            low = np.maximum(there[:, :2], (left, top))
            high = np.minimum(there[:, 2:], (left + width, top + height))
            shared = np.clip(high - low, 0, None).prod(1)
            iou = shared / (areas + height * width - shared)
            covered = shared / np.minimum(areas, height * width)
            if (iou <= self.spec.max_iou).all() and (covered <= 2 * self.spec.max_iou).all():
                return left, top
        return None

    def _paint(self, rng: np.random.Generator, patch: np.ndarray, ink: np.ndarray) -> None:
        """Blend a digit into ``patch`` (h, w, 3), in a lighter colour than what is under its strokes."""
        behind = float((patch @ GRAY)[ink >= INK].mean())
        luminance = rng.uniform(min(behind + self.CONTRAST, 245), 250)
        color = _color_of_luminance(rng.uniform(0, 255, 3), luminance)
        alpha = (ink * rng.uniform(0.9, 1.0))[..., None]
        patch += alpha * (color - patch)


def _color_of_luminance(color: np.ndarray, luminance: float) -> np.ndarray:
    """Brighten or darken a BGR colour, towards white or black, until it has a luminance."""
    now = float(color @ GRAY)
    target = 255.0 if luminance > now else 0.0
    part = (luminance - now) / (target - now) if target != now else 0.0
    return color + part * (target - color)


def write_digits(spec: DigitsSpec, data_root: str) -> str:
    """Write the scenes below ``data_root`` unless they are there; return their folder.

    It appears as a whole: it is written under another name first. Processes that start together wait for the first.

    Raises:
        OSError: the folder cannot be written.
    """
    folder = os.path.join(data_root, spec.folder)
    if _is_written(folder, spec):
        return folder
    os.makedirs(data_root, exist_ok=True)
    with _lock(os.path.join(data_root, f".{spec.folder}.lock")):
        if not _is_written(folder, spec):
            partial = f"{folder}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            _write_scenes(spec, partial)
            shutil.rmtree(folder, ignore_errors=True)
            os.rename(partial, folder)
    return folder


def _is_written(folder: str, spec: DigitsSpec) -> bool:
    """Whether the folder holds exactly these scenes."""
    try:
        with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as file:
            return json.load(file) == asdict(spec)
    except (OSError, ValueError):
        return False


@contextlib.contextmanager
def _lock(path: str) -> Iterator[None]:
    """Hold an exclusive lock that ends with the process; none where the system has no such locks."""
    try:
        import fcntl
    except ImportError:
        yield
        return
    with open(path, "w", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _write_scenes(spec: DigitsSpec, folder: str) -> None:
    os.makedirs(os.path.join(folder, "images"))
    scenery = Scenery(spec)
    images: list[dict] = []
    annotations: list[dict] = []
    print(f"Writing {spec.num_images} images of digits ({spec.split}) to {folder.removesuffix('.partial')}", flush=True)
    bar = ProgressBar(spec.num_images)
    step = max(spec.num_images // 20, 1)
    for index in range(spec.num_images):
        picture, boxes, labels = scenery.draw(index)
        name = f"{index:06d}.jpg"
        if not cv2.imwrite(os.path.join(folder, "images", name), picture, [cv2.IMWRITE_JPEG_QUALITY, 90]):
            raise OSError(f"{folder}: the image {name} could not be written; is the disk full?")
        images.append({"id": index + 1, "file_name": name, "height": spec.image_size, "width": spec.image_size})
        for (left, top, right, bottom), label in zip(boxes.tolist(), labels.tolist(), strict=True):
            width, height = right - left, bottom - top
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": index + 1,
                    "category_id": label + 1,
                    "bbox": [left, top, width, height],
                    "area": width * height,
                    "iscrowd": 0,
                }
            )
        if (index + 1) % step == 0:
            bar.update(step)
    print(flush=True)
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": digit + 1, "name": str(digit)} for digit in range(10)],
    }
    for name, data in (("annotations.json", content), ("manifest.json", asdict(spec))):
        with open(os.path.join(folder, name), "w", encoding="utf-8") as file:
            json.dump(data, file)
