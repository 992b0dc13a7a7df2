"""What the panels of a sheet show, drawn into axes whose coordinates are pixels of the image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image

from densehead.analysis.records import AssignmentRecord
from densehead.analysis.scenes import Scene
from densehead.analysis.sheet.layout import POINT
from densehead.analysis.sheet.marks import PanelMarks
from densehead.visualization.drawing import Marks, Style, draw_marks
from densehead.visualization.palette import Color

DARKEST, BRIGHTEST, GREYS = 22, 155, 36  # of the backdrop: darker than any mark; few greys make small files
HOLLOW = (0.78, 0.78, 0.78)
#: A frame like barrier tape, which no object's colour can be taken for.
WARNING = ((1.0, 1.0, 1.0), (0.9, 0.0, 0.1))
WARNING_WIDTH = 2.2  # pixels of the sheet, as the next two
CLEARANCE, SMALLEST_FRAME = 3, 13
CELL_FILL, CELL_EDGE = 0.12, 0.55  # opacity of cells, of that of their point
FRAME, FAINT_FRAME = 0.9, 0.3  # opacity of frames
MOST_LABELS = 100  # more objects are not named: one would see nothing but names


def photo(scene: Scene, colors: Sequence[Color], size: tuple[int, int]) -> np.ndarray:
    """Return the image in ``size`` (width, height), its objects framed in their colours, and named where a name hides
    nothing.
    """
    record = next(iter(scene.records.values()))
    texts = [class_name(scene, label) for label in record.labels] if len(record.labels) <= MOST_LABELS else []
    scale = size[0] / scene.image.shape[1]
    image = np.asarray(Image.fromarray(scene.image).resize(size, _filter(scale)))
    marks = Marks(record.boxes * scale, texts, list(colors), [False] * len(record.boxes))
    return draw_marks(image, marks, Style(min_side=0, line_width=max(1, size[0] / 400), only_free_labels=True))


def backdrop(image: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Return (height, width, 3) uint8: an image (H, W, 3) without colours and dimmed, so that marks stand out."""
    grey = Image.fromarray(image).convert("L").resize(size, _filter(size[0] / image.shape[1]))
    levels = np.round(np.asarray(grey, dtype=np.float64) / 255 * (GREYS - 1)) / (GREYS - 1)
    dimmed = np.round(DARKEST + (BRIGHTEST - DARKEST) * levels).astype(np.uint8)
    return np.repeat(dimmed[..., None], 3, 2)


def draw_picture(axis: Any, picture: np.ndarray, shape: tuple[int, ...]) -> None:
    """Fill an axis with a picture of its size, and let its coordinates be pixels of an image of ``shape``."""
    height, width = shape[:2]
    axis.set_xlim(0, width)
    axis.set_ylim(height, 0)
    axis.imshow(picture, extent=(0, width, height, 0), interpolation="nearest", aspect="auto")


def draw_points(axis: Any, marks: PanelMarks, *, cells: bool) -> None:
    """Draw the points of a panel, and the cell around each positive where ``cells``."""
    from matplotlib.collections import EllipseCollection, PolyCollection

    def discs(centers: np.ndarray, sizes: np.ndarray, **look) -> None:
        where = {"units": "xy", "offsets": centers, "offset_transform": axis.transData}
        axis.add_collection(EllipseCollection(sizes, sizes, np.zeros_like(sizes), **where, **look), autolim=False)

    discs(marks.hollow_centers, 0.8 * marks.hollow_diameters, facecolors="none", edgecolors=[HOLLOW], linewidths=POINT)
    if cells and len(marks.centers):
        half = marks.cells[:, None] / 2
        squares = corners_of(np.concatenate([marks.centers - half, marks.centers + half], 1))
        fill, edge = (marks.colors * (1, 1, 1, opacity) for opacity in (CELL_FILL, CELL_EDGE))
        look = {"facecolors": fill, "edgecolors": edge, "linewidths": 0.8 * POINT}
        axis.add_collection(PolyCollection(squares, **look), autolim=False)
    edge = {"edgecolors": (0, 0, 0, 0.45), "linewidths": 0.5 * POINT}
    discs(marks.centers, marks.diameters, facecolors=marks.colors, **edge)


def draw_frames(
    axis: Any, record: AssignmentRecord, colors: Sequence[Color], *, level: int | None, pixel: float
) -> None:
    """Frame the objects: in their colours, faintly where a level has no point of theirs; those without any point at all
    as a warning. ``pixel`` is the size of a pixel of the sheet in those of the image.
    """
    from matplotlib.collections import PolyCollection

    counts, is_missed = record.counts(), record.is_missed()
    is_here = (counts.sum(1) if level is None else counts[:, level]) > 0
    rgb = np.asarray(colors, dtype=np.float64).reshape(-1, 3) / 255
    edges = np.column_stack([rgb, np.where(is_here, FRAME, FAINT_FRAME)])[~is_missed]
    frames = corners_of(record.boxes[~is_missed])
    axis.add_collection(PolyCollection(frames, facecolors="none", edgecolors=edges, linewidths=POINT), autolim=False)
    frames = corners_of(around(record.boxes[is_missed], pixel))
    for color, dash in zip(WARNING, ("solid", (0, (2, 2))), strict=True):
        look = {"edgecolors": [color], "linewidths": WARNING_WIDTH * POINT, "linestyles": [dash]}
        axis.add_collection(PolyCollection(frames, facecolors="none", **look), autolim=False)


def around(boxes: np.ndarray, pixel: float) -> np.ndarray:
    """Return frames (n, 4) around boxes (n, 4), some pixels of the sheet away, so that small objects stay to be seen.

    ``pixel`` is the size of one of them in the unit of the boxes.
    """
    center, half = (boxes[:, :2] + boxes[:, 2:]) / 2, (boxes[:, 2:] - boxes[:, :2]) / 2
    half = np.maximum(half + CLEARANCE * pixel, SMALLEST_FRAME / 2 * pixel)
    return np.concatenate([center - half, center + half], 1)


def corners_of(boxes: np.ndarray) -> np.ndarray:
    """Return (n, 4, 2): the corners of boxes (n, 4)."""
    return boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)


def class_name(scene: Scene, label: int) -> str:
    """Return the name of a class, or its number where it has none."""
    return scene.class_names[label] if label < len(scene.class_names) else f"class {label}"


def _filter(scale: float) -> Image.Resampling:
    return Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS
