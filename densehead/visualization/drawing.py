"""Boxes and labels on pictures, with PIL: crisp lines, and text in the font that comes with matplotlib."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from densehead.visualization.labels import are_free, place_labels
from densehead.visualization.palette import Color, readable_on

SMALLEST_FONT = 10
LABEL_SHARE = 0.10  # of the picture may be covered by labels before they get smaller
CAPTION_COLORS = ((255, 255, 255), (32, 32, 32))


@dataclass(frozen=True)
class Style:
    """How to draw.

    Attributes:
        line_width: of boxes, pixels of the drawn picture; by its size if None.
        text_color: of labels; black or white, whichever is readable, if None.
        alpha: opacity of lines and labels, 0 to 1.
        min_side: a picture whose longer side is shorter is enlarged by a whole factor, pixels.
        max_side: a picture whose longer side is longer is reduced to it, pixels; none is if None.
        font_file: a TrueType font (one with your script's letters); DejaVu Sans if None.
        only_free_labels: leave out labels that would hide an object or another label.
    """

    line_width: float | None = None
    text_color: Color | None = None
    alpha: float = 0.9
    min_side: int = 480
    max_side: int | None = None
    font_file: str | None = None
    only_free_labels: bool = False

    def scale(self, image: np.ndarray) -> float:
        """Return the factor between a picture (H, W, 3) and its drawn copy."""
        side = max(image.shape[:2])
        if self.max_side is not None and side > self.max_side:
            return self.max_side / side
        return max(1, math.ceil(self.min_side / side))


@dataclass(frozen=True)
class Marks:
    """What to draw on one picture; the first have the first choice of a place for their label.

    Attributes:
        boxes: (n, 4) xyxy, pixels of the picture before it is enlarged.
        texts: n labels; none where it is empty.
        colors: n colours.
        dashed: n flags, True for what is only outlined (ignored truth).
    """

    boxes: np.ndarray
    texts: Sequence[str]
    colors: Sequence[Color]
    dashed: Sequence[bool]


def draw_marks(image: np.ndarray, marks: Marks, style: Style) -> np.ndarray:
    """Return a copy of ``image`` (H, W, 3), RGB uint8, in the style's size, with the marks on it."""
    scale = style.scale(image)
    canvas = Image.fromarray(image).convert("RGBA")
    if scale != 1:
        size = tuple(max(1, round(side * scale)) for side in canvas.size)
        canvas = canvas.resize(size, Image.Resampling.BICUBIC if scale > 1 else Image.Resampling.LANCZOS)
    boxes = np.clip(marks.boxes * scale, 0, [*canvas.size, *canvas.size])
    layer = Image.new("RGBA", canvas.size)
    draw = ImageDraw.Draw(layer)
    opacity = round(255 * style.alpha)
    width = round(style.line_width or max(2, 0.115 * math.sqrt(max(canvas.size))))
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    for index in np.argsort(-areas, kind="stable"):  # the small ones on top
        _draw_box(draw, boxes[index], marks.colors[index], width, opacity, dashed=marks.dashed[index])
    _draw_labels(draw, boxes, marks, style, opacity)
    return np.asarray(Image.alpha_composite(canvas, layer).convert("RGB"))


def with_caption(picture: np.ndarray, caption: str, style: Style) -> np.ndarray:
    """Return the picture (H, W, 3) below a line of text, which gets smaller where it would not fit."""
    size = font_size(picture.shape[1], picture.shape[0])
    bar = Image.new("RGB", (picture.shape[1], round(1.7 * size)), CAPTION_COLORS[0])
    font = load_font(size, style.font_file)
    room = bar.width - 0.6 * size
    if font.getlength(caption) > room:
        font = load_font(max(6, int(size * room / font.getlength(caption))), style.font_file)
    ImageDraw.Draw(bar).text((round(0.3 * size), bar.height / 2), caption, CAPTION_COLORS[1], font, anchor="lm")
    return np.concatenate([np.asarray(bar), picture])


def font_size(width: int, height: int) -> int:
    """Return the size of text on a picture, pixels: it grows with the root of the picture's."""
    return max(SMALLEST_FONT, round(0.68 * math.sqrt(max(width, height))))


@functools.lru_cache(maxsize=16)
def load_font(size: int, font_file: str | None = None) -> ImageFont.FreeTypeFont:
    """Return a font of ``size`` pixels.

    Raises:
        FileNotFoundError: there is no ``font_file``, or it is no font.
    """
    if font_file is None:
        import matplotlib as mpl

        font_file = str(Path(mpl.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
    try:
        return ImageFont.truetype(font_file, size)
    except OSError as error:
        raise FileNotFoundError(f"font_file={font_file!r} cannot be read as a TrueType font: {error}") from error


def _draw_box(
    draw: ImageDraw.ImageDraw, box: np.ndarray, color: Color, width: int, opacity: int, *, dashed: bool
) -> None:
    """Outline a box inside its edges, with a thin rim that parts it from a background of its own colour."""
    left, top, right, bottom = (round(edge) for edge in box.tolist())
    right, bottom = max(right - 1, left), max(bottom - 1, top)
    width = max(1, min(width, min(right - left, bottom - top) // 7))  # leave a small object to be seen
    if dashed:
        for segment in _dashes(left, top, right, bottom, 4 * width):
            draw.line(segment, (*color, opacity), width)
        return
    rim = (*readable_on(color), opacity // 3)
    draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=rim)
    draw.rectangle((left, top, right, bottom), outline=(*color, opacity), width=width)
    if min(right - left, bottom - top) > 2 * width + 1:
        draw.rectangle((left + width, top + width, right - width, bottom - width), outline=rim)


def _dashes(left: int, top: int, right: int, bottom: int, length: int) -> list[tuple[float, float, float, float]]:
    """Segments of a dashed rectangle: dashes at every corner, gaps between."""
    sides = (
        (left, top, right, top),
        (left, bottom, right, bottom),
        (left, top, left, bottom),
        (right, top, right, bottom),
    )
    segments = []
    for x1, y1, x2, y2 in sides:
        parts = 2 * max(1, round(max(x2 - x1, y2 - y1) / (2 * length))) + 1
        for begin, end in ((part / parts, (part + 1) / parts) for part in range(0, parts, 2)):
            segments.append(
                (x1 + begin * (x2 - x1), y1 + begin * (y2 - y1), x1 + end * (x2 - x1), y1 + end * (y2 - y1))
            )
    return segments


def _draw_labels(draw: ImageDraw.ImageDraw, boxes: np.ndarray, marks: Marks, style: Style, opacity: int) -> None:
    has_text = np.array([bool(text) for text in marks.texts], bool)
    if not has_text.any():
        return
    font = _fitting_font(marks.texts, draw.im.size, style.font_file)
    pad = max(1, round(0.16 * font.size))
    height = sum(font.getmetrics())
    sizes = np.array([[font.getlength(text) + 2 * pad, height] for text in marks.texts]) * has_text[:, None]
    places = place_labels(boxes, np.ceil(sizes), draw.im.size)
    is_shown = has_text & (are_free(places, boxes) if style.only_free_labels else True)
    for index in np.flatnonzero(is_shown):
        place, text, color, dashed = places[index], marks.texts[index], marks.colors[index], marks.dashed[index]
        ink = style.text_color or readable_on(color)
        ground = color if style.text_color is None else readable_on(style.text_color)
        left, top, right, bottom = place.round()
        if dashed:
            ink, ground = (255, 255, 255), (60, 60, 60)
        draw.rectangle((left, top, right - 1, bottom - 1), fill=(*ground, opacity))
        draw.text((left + pad, top), text, (*ink, 255), font)


def _fitting_font(texts: Sequence[str], canvas: tuple[int, int], font_file: str | None) -> ImageFont.FreeTypeFont:
    """The usual font, or a smaller one where many labels would hide the picture."""
    size = font_size(*canvas)
    font = load_font(size, font_file)
    share = sum(font.getlength(text) for text in texts) * size * 1.3 / (canvas[0] * canvas[1])
    if share <= LABEL_SHARE:
        return font
    return load_font(max(SMALLEST_FONT, round(size * math.sqrt(LABEL_SHARE / share))), font_file)
