"""Heat maps of the levels on the photo, with one colour bar for all."""

from __future__ import annotations

import math
from collections.abc import Sequence
from os import PathLike
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from densehead.analysis.heatmaps.maps import Level
from densehead.visualization import Style, contact_sheet
from densehead.visualization.drawing import load_font

CELL_STYLE = Style(min_side=256, max_side=330)
DIM = 0.55  # of the photo's brightness below the colours
LEAST_OPACITY = 0.12
TEXT_SIZE = 13


def draw_heatmaps(
    picture: np.ndarray,
    detected: np.ndarray,
    levels: Sequence[Level],
    classes: Sequence[str],
    out_file: str | PathLike,
    *,
    title: str = "",
) -> Path:
    """Draw a sheet: a row each for features, class scores and, where there is one, quality; a column a level.

    Scores have one scale, from 0 to the highest on the sheet. Features are shown from the lowest to the highest of
    their level.

    Args:
        picture: (H, W, 3) RGB of bytes, the input without padding.
        detected: (h, w, 3) the picture with its detections, for the first column.
        levels: from fine to coarse.
        classes: names.
        out_file: the sheet; its folder is made if there is none.
        title: above the first picture.
    """
    top = _round_up(max(float(_scores_of(level).max()) for level in levels))
    base = _dimmed(picture, CELL_STYLE.scale(picture))
    rows = [
        _feature_cells(base, picture, levels),
        _score_cells(base, picture, levels, classes, "score", "class score", top),
    ]
    if levels[0].quality is not None:
        rows.append(_score_cells(base, picture, levels, classes, "quality", "quality", top))
        rows.append(_score_cells(base, picture, levels, classes, "joined", "class score and quality", top))
    first = [(detected, title), (_color_bar(base.shape, top), "colours"), *[(np.full_like(base, 255), "")] * 2]
    cells = [cell for start, row in zip(first, rows, strict=False) for cell in (start, *row)]
    pictures, titles = zip(*cells, strict=True)
    return contact_sheet(pictures, out_file, 1 + len(levels), titles=titles)


def overlay(base: np.ndarray, heat: np.ndarray, stride: tuple[float, float], scale: float) -> np.ndarray:
    """Return a picture with the places of a level in colours.

    Args:
        base: (H, W, 3), the dimmed picture, ``scale`` times as large as the input.
        heat: (h, w) in [0, 1].
        stride: pixels of the input between places, along x and y.
        scale: of the picture.
    """
    columns, rows = (
        np.minimum((np.arange(count) + 0.5) / scale / step, limit - 1).astype(int)
        for count, step, limit in zip(base.shape[1::-1], stride, heat.shape[::-1], strict=True)
    )
    return _blend(base, heat[rows[:, None], columns])


def _blend(base: np.ndarray, heat: np.ndarray) -> np.ndarray:
    import matplotlib as mpl

    colors = mpl.colormaps["inferno"](0.1 + 0.9 * heat)[..., :3] * 255
    opacity = (LEAST_OPACITY + (1 - LEAST_OPACITY) * heat)[..., None]
    return (base * (1 - opacity) + colors * opacity).round().astype(np.uint8)


def _dimmed(picture: np.ndarray, scale: float) -> np.ndarray:
    """The picture in grey, dark, in the size in which it is drawn."""
    grey = Image.fromarray(picture).convert("L")
    size = tuple(max(1, round(side * scale)) for side in grey.size)
    grey = np.asarray(grey.resize(size, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS))
    return np.repeat((grey * DIM).astype(np.uint8)[..., None], 3, axis=2)


def _feature_cells(base: np.ndarray, picture: np.ndarray, levels: Sequence[Level]) -> list[tuple[np.ndarray, str]]:
    scale = CELL_STYLE.scale(picture)
    cells = []
    for level in levels:
        low, high = float(level.feature.min()), float(level.feature.max())
        heat = (level.feature - low) / max(high - low, 1e-12)
        title = f"feature, stride {level.stride[0]:g}: {low:.2f} to {high:.2f}"
        cells.append((overlay(base, heat, level.stride, scale), title))
    return cells


def _score_cells(
    base: np.ndarray,
    picture: np.ndarray,
    levels: Sequence[Level],
    classes: Sequence[str],
    name: str,
    text: str,
    top: float,
) -> list[tuple[np.ndarray, str]]:
    scale = CELL_STYLE.scale(picture)
    cells = []
    for level in levels:
        heat = getattr(level, name)
        of = f" ({classes[level.best_class[name]]})" if name in level.best_class else ""
        title = f"{text}, stride {level.stride[0]:g}: up to {heat.max():.2f}{of}"
        cells.append((overlay(base, np.clip(heat / top, 0, 1), level.stride, scale), title))
    return cells


def _scores_of(level: Level) -> np.ndarray:
    parts = [one for one in (level.score, level.quality, level.joined) if one is not None]
    return np.stack(parts)


def _round_up(value: float) -> float:
    """To the next tenth, hundredth or so, of at most 1."""
    unit = 10.0 ** math.floor(math.log10(max(value, 1e-6)))
    unit = unit if value < 0.1 else 0.1
    return min(1.0, math.ceil(value / unit - 1e-9) * unit)


def _color_bar(shape: tuple[int, ...], top: float) -> np.ndarray:
    """A cell with the colours, upright, and what they mean."""
    height, width = shape[:2]
    cell = np.full((height, width, 3), 255, dtype=np.uint8)
    bar_height, bar_width, left = max(height - 2 * TEXT_SIZE, 2), width // 8, width // 12
    heat = np.repeat(np.linspace(1, 0, bar_height)[:, None], bar_width, axis=1)
    cell[TEXT_SIZE : TEXT_SIZE + bar_height, left : left + bar_width] = _blend(
        np.full((bar_height, bar_width, 3), 70), heat
    )
    image = Image.fromarray(cell)
    draw, font = ImageDraw.Draw(image), load_font(TEXT_SIZE)
    ink, x = (32, 32, 32), left + bar_width + 8
    for share in (1.0, 0.5, 0.0):
        y = TEXT_SIZE + (1 - share) * bar_height
        draw.text((x, y), f"{share * top:g}", ink, font, anchor="lm")
    for share, text in ((1.0, "highest"), (0.0, "lowest")):
        draw.text(
            (x + 3 * TEXT_SIZE, TEXT_SIZE + (1 - share) * bar_height), f"features: {text}", ink, font, anchor="lm"
        )
    return np.asarray(image)
